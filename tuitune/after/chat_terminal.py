"""`tuitune chat` in a plain terminal, and with piped input. Answers go to stdout as they are drawn, everything else to stderr."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tuitune.after.chat_params import Params, parse
from tuitune.after.chat_rows import DEFAULT_FILE, append_row
from tuitune.after.chat_session import ChatSession
from tuitune.after.chat_state import SideFacts, Spoken, TurnFacts
from tuitune.errors import UserError
from tuitune.printing import print_json
from tuitune.text import printable

HELP = """\
/again            answer the last question once more, with another seed
/set NAME=VALUE   temperature, top_p, top_k, max_new_tokens, repetition_penalty, seed (auto: another one each time)
/system TEXT      the system prompt, and begin anew        /reset   begin anew
/probs            how probable each token of the last answer was, and what else it could have been
/save [FILE]      append the last conversation as a training row (default: data/chat.jsonl); /save right FILE: of the second model
/help  /quit      Ctrl-C interrupts an answer, Ctrl-D ends the chat"""

ENDS = {"stop token": "ended by itself", "length": "cut off by max_new_tokens"}


def converse(session: ChatSession, params: Params, workspace: Path) -> None:
    """Questions by hand until Ctrl-D or /quit."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  line editing and history for input()
    talk = _Talk(session, params, workspace)
    for side in session.state.sides:
        _aside(f"{printable(side.words)}: {side.weights} on {side.device}{_without_template(side)}")
    _aside("Ask something. /help lists what else there is; Ctrl-D ends.")
    while True:
        try:
            text = input("\n› ").strip()
        except EOFError:
            print()  # noqa: T201
            return
        except KeyboardInterrupt:
            print()  # noqa: T201
            continue
        if text in ("/quit", "/exit", "/q"):
            return
        if text:
            try:
                talk.take(text)
            except UserError as error:
                _aside(printable(str(error), newlines=True))


def answer_all(session: ChatSession, params: Params, questions: Iterator[str], as_json: bool) -> int:
    """Each question on its own, without those before it: its answers on stdout, or (as_json) one document. 1 when an answer failed."""
    failed = False
    document: list[dict[str, Any]] = []
    for number, text in enumerate(questions):
        messages = [{"role": "user", "content": text}]
        if session.state.system:
            messages.insert(0, {"role": "system", "content": session.state.system})
        if number and not as_json and len(session.state.sides) > 1:
            print()  # noqa: T201
        turn = _print_turn(session, session.ask(messages=messages, params=params.as_dict()), quiet=as_json, facts=False)
        failed |= any(spoken.error for spoken in turn.answers.values())
        document.append(_turn_document(turn))
    if as_json:
        sides = [{"side": side.key, "model": side.words, "weights": side.weights, "device": side.device} for side in session.state.sides]
        print_json({"run": session.run.name, "sides": sides, "turns": document})
    return 1 if failed else 0


class _Talk:
    """What can be typed."""

    def __init__(self, session: ChatSession, params: Params, workspace: Path) -> None:
        self.session, self.params, self.workspace = session, params, workspace

    def take(self, text: str) -> None:
        """A question, or a word that begins with a slash."""
        if not text.startswith("/"):
            self._ask(lambda: self.session.ask(text=text, params=self.params.as_dict()))
            return
        word, _, rest = text[1:].partition(" ")
        does: dict[str, Callable[[str], None]] = {
            "again": lambda rest: self._ask(lambda: self.session.ask("regenerate", params=_without_seed(self.params))),
            "set": self._set,
            "system": lambda rest: self._begin_anew(system=rest),
            "reset": lambda rest: self._begin_anew(),
            "probs": lambda rest: self._probabilities(),
            "save": self._save,
            "help": lambda rest: _aside(HELP),
        }
        if word not in does:
            raise UserError(f"/{word} is unknown; /help lists what there is")
        does[word](rest.strip())

    def _ask(self, begin: Callable[[], Iterator[dict[str, Any]]]) -> None:
        _print_turn(self.session, begin(), quiet=False, facts=True)

    def _set(self, rest: str) -> None:
        self.params = self.params.with_values(parse(rest))
        _aside(self.params.words())

    def _begin_anew(self, **args: str) -> None:
        self.session.reset(**args)
        _aside("a new conversation" + (f" with the system prompt: {printable(args['system'])}" if args.get("system") else ""))

    def _probabilities(self) -> None:
        turn = self._last()
        self.session.probabilities(turn.number)
        for key, spoken in turn.answers.items():
            if label := _label(self.session, key):
                _aside(label)
            for token in spoken.probabilities:
                others = "  ".join(f"{printable(text)!s} {p:.0%}" for text, p in token.top if text != token.text)
                print(f"{token.p:7.1%}  {printable(token.text):<16} {others}")  # noqa: T201

    def _save(self, rest: str) -> None:
        self._last()
        side, _, file = rest.partition(" ") if rest.split(" ")[0] in ("left", "right") else ("left", "", rest)
        messages = self.session.state.messages(side)
        if not messages:
            raise UserError("that side has no answer that ended by itself; one that is cut off is no row to learn from")
        path = self.workspace / Path(file.strip() or DEFAULT_FILE).expanduser()
        rows = append_row(path, messages)
        count = "1 row" if rows == 1 else f"{rows} rows"
        _aside(f"{printable(str(path))} has {count} now; a recipe reads it with columns: {{messages: messages}}")

    def _last(self) -> TurnFacts:
        if not self.session.state.turns:
            raise UserError("ask something first")
        return self.session.state.turns[-1]


def _print_turn(session: ChatSession, records: Iterator[dict[str, Any]], *, quiet: bool, facts: bool) -> TurnFacts:
    """Print a turn as it is drawn; Ctrl-C interrupts it."""
    side = ""
    while True:
        try:
            for record in records:
                if quiet:
                    continue
                if record.get("side") != side:
                    side = str(record.get("side"))
                    if label := _label(session, side):
                        print(label)  # noqa: T201
                if record["ev"] == "say":
                    print(printable(str(record.get("text")), newlines=True), end="", flush=True)  # noqa: T201
                else:
                    print()  # noqa: T201
                    _tell_end(session.state.turns[-1], side, facts)
            return session.state.turns[-1]
        except KeyboardInterrupt:
            session.interrupt()
            records = session.rest()


def _tell_end(turn: TurnFacts, side: str, facts: bool) -> None:
    spoken = turn.answers[side]
    if spoken.error:
        _aside(printable(spoken.error))
    elif facts:
        _aside(ending(spoken) + (f", seed {turn.seed}" if turn.params.get("temperature") else ""))


def ending(spoken: Spoken) -> str:
    """How an answer ended, in a few words."""
    count = "1 token" if spoken.tokens == 1 else f"{spoken.tokens or 0} tokens"
    speed = f", {spoken.speed:.0f} tok/s" if spoken.speed else ""
    why = ENDS.get(spoken.ended, spoken.ended)
    return f"{count}{speed}, {why}"


def _turn_document(turn: TurnFacts) -> dict[str, Any]:
    answers = [
        {
            "side": key,
            "text": spoken.text,
            "tokens": spoken.tokens,
            "prompt_tokens": spoken.prompt_tokens,
            "tokens_per_second": spoken.speed,
            "ended": spoken.ended,
            "error": spoken.error or None,
        }
        for key, spoken in turn.answers.items()
    ]
    return {"prompt": turn.text, "seed": turn.seed, "params": turn.params, "answers": answers}


def _without_seed(params: Params) -> dict[str, Any]:
    return {name: value for name, value in params.as_dict().items() if name != "seed"}


def _label(session: ChatSession, key: str) -> str:
    """The name of a side before its answer; "" where there is one only."""
    sides = session.state.sides
    if len(sides) < 2:
        return ""
    return next((f"── {printable(side.words)}" for side in sides if side.key == key), "")


def _without_template(side: SideFacts) -> str:
    return "" if side.template else "; it has no chat template: it goes on with your text, and earlier turns are not sent"


def _aside(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201
