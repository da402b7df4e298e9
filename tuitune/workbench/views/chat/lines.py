"""The lines of a chat: its head, each side's conversation, the probabilities of an answer. Pure functions; every text is foreign."""

from collections.abc import Mapping
from typing import Any

from rich.cells import cell_len

from tuitune.after.chat_params import Params
from tuitune.after.chat_state import ChatState, SideFacts, Spoken, TurnFacts
from tuitune.text import printable
from tuitune.workbench.parts.broken_text import broken_up
from tuitune.workbench.parts.role_lines import Line

ENDS = {
    "stop token": ("✓ ended by itself", "good"),
    "length": ("! cut off by max_new_tokens", "warn"),
    "interrupted": ("! interrupted", "warn"),
    "memory": ("✗ the memory ran out", "error"),
}
METER = 8  # cells of the bar of a probability
UNLIKELY = 0.2  # a token below this probability is marked


def head(state: ChatState, over: bool, width: int) -> list[Line]:
    """Where the chat stands."""
    if over:
        sign = "error" if state.state in ("failed", "lost") else "dim"
        why = f": {state.why}" if state.why else ""
        return list(broken_up(f"{state.state}{why}. Its models are out of memory; what was said stays here.", width, sign))
    if not state.ready:
        return [((printable(f"{state.state}: {state.why or 'the models'} …", limit=width), "dim"),)]
    system = f"system: {printable(state.system, limit=60)}" if state.system else "no system prompt"
    return [((f"{'answering … Esc interrupts' if state.busy else 'ready'}", "one" if state.busy else "good"), (f"  {system}", "dim"))]


def side_title(side: SideFacts) -> Line:
    """The name of a column."""
    note = "" if side.template else ", no chat template: goes on with your text"
    return ((printable(side.words, limit=80), "title"), (printable(f"  {side.weights} on {side.device}{note}"), "dim"))


def params_line(params: Mapping[str, Any]) -> Line:
    """The sampling parameters in force."""
    chosen = Params(**{name: value for name, value in params.items() if name in Params.__dataclass_fields__})
    words = [f"temperature {chosen.temperature:g}", f"{chosen.max_new_tokens} tokens", f"top_p {chosen.top_p:g}", f"top_k {chosen.top_k}"]
    words += [f"repetition {chosen.repetition_penalty:g}"] if chosen.repetition_penalty != 1 else []
    words += [f"seed {chosen.seed}"] if chosen.seed is not None else []
    return ((" · ".join(words), "dim"),)


def conversation(state: ChatState, key: str, width: int) -> list[Line]:
    """All turns as one side had them."""
    lines: list[Line] = []
    for turn in state.turns:
        if lines:
            lines.append(())
        lines += [(("› ", "one"), *line) for line in broken_up(turn.text, max(4, width - 2), "title")]
        spoken = turn.answers.get(key)
        if spoken is None:
            lines.append((("…" if key in turn.sides and state.busy else "not asked", "dim"),))
            continue
        lines += broken_up(spoken.text + ("" if spoken.ended else "▌"), width)
        if spoken.ended:
            lines += _ending(turn, spoken, width)
    return lines


def _ending(turn: TurnFacts, spoken: Spoken, width: int) -> list[Line]:
    if spoken.error:
        return list(broken_up(spoken.error, width, "error"))
    words, role = ENDS.get(spoken.ended, (printable(spoken.ended, limit=30), "dim"))
    facts = ["1 token" if spoken.tokens == 1 else f"{spoken.tokens or 0} tokens"]
    if spoken.speed is not None:
        facts.append(f"{spoken.speed:.0f} tok/s")
    if turn.seed is not None and turn.params.get("temperature"):
        facts.append(f"seed {turn.seed}")
    told = " · ".join(facts)
    return [((words, role), (f" · {told}", "dim"))] if len(words) + len(told) + 3 <= width else [((words, role),), ((told, "dim"),)]


def probability_lines(spoken: Spoken | None, width: int) -> list[Line]:
    """A token a line: how probable it was, and the likeliest ones in its place."""
    if spoken is None or not spoken.probabilities:
        return [(("no token to show", "dim"),)]
    lines: list[Line] = []
    for token in spoken.probabilities:
        full = round(METER * min(1.0, max(0.0, token.p)))
        mark = "warn" if token.p < UNLIKELY else "good"
        others = "  ".join(f"{_shown(text)} {p:.0%}" for text, p in token.top if text != token.text)
        name = _padded(_shown(token.text), 14)
        start: Line = ((f"{token.p:6.1%} ", ""), ("█" * full + "·" * (METER - full), mark), (f" {name} ", "title"))
        room = max(0, width - sum(cell_len(text) for text, _ in start))
        lines.append((*start, (_cut(others, room), "dim")))
    return lines


def _shown(text: str) -> str:
    return printable(text.replace(" ", "␣"), limit=24)


def _padded(text: str, width: int) -> str:
    return text + " " * max(0, width - cell_len(text))


def _cut(text: str, width: int) -> str:
    while text and cell_len(text) > width:
        text = text[:-1]
    return text
