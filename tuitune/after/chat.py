"""The chat job: one or two models stay in memory and answer the same questions until the chat is ended.

args: `sides` [{"source", "adapter"}] one or two (the same source twice, once without its adapter, is one model), `four_bit` (None: each
as it was trained), `system`, `idle_minutes` (without a question; then it ends and gives the memory back).

Events: `chat` (the sides), `turn` (a question; `again`: once more), `say` (a piece of an answer), `said` (its end), `probabilities` and
`reset`.
"""

import random
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from tuitune.after.chat_model import Answer, Message, Side, answer, probabilities, prompt_ids
from tuitune.after.chat_params import Params
from tuitune.after.job import Command, Job
from tuitune.after.loading import load
from tuitune.after.source import Source, base_of, find_source
from tuitune.bus.envelope import encode
from tuitune.errors import UserError

OPS = ("ask", "interrupt", "regenerate", "reset", "probabilities")
SAY_S = 0.1  # between two pieces of an answer
LOOK_S = 0.05  # between looks at commands while it answers
PORTION = 64  # tokens of a `probabilities` record, which has to stay below 64 KiB
LONGEST = 48 << 10  # bytes of a question and the system prompt, which go into one record of the journal
KEYS = ("left", "right")
ROLES = ("system", "user", "assistant", "tool")


@dataclass
class Turn:
    """A question and what each side answered; `prompts`: the ids that each was asked with."""

    number: int
    text: str
    answers: dict[str, Answer] = field(default_factory=dict)
    prompts: dict[str, list[int]] = field(default_factory=dict)


def run(job: Job) -> dict[str, Any]:
    """Load the sides, answer until somebody ends it; how many turns there were."""
    sides = _load(job)
    chat = Chat(job, sides, str(job.args.get("system") or ""))
    job.emit("chat", sides=[_told(side) for side in sides], system=chat.system, params=chat.params.as_dict())
    job.state("running", "ready")
    idle = 60 * float(job.args.get("idle_minutes") or 30)
    while not job.stopped():
        for command in job.commands():
            chat.take(command)
        if time.monotonic() - chat.asked > idle:
            job.stop.ask(f"nobody has asked anything for {idle / 60:.0f} minutes: the memory is free again")
        time.sleep(0.02)
    return {"turns": chat.count}


def _load(job: Job) -> list[Side]:
    """The sides; two of one source share its model."""
    sides: list[Side] = []
    loaded: dict[str, Side] = {}
    wanted = job.args["sides"]
    for key, side in zip(KEYS, wanted):
        source = find_source(str(side["source"]), job.workspace)
        adapted = bool(side.get("adapter", True))
        words = source.words if adapted else f"{base_of(source).words} (base)"
        shared = loaded.get(source.reference)
        if shared is None:
            job.emit("state", s="loading", why=f"loading {source.words}")
            model, tokenizer = load(source, adapter=True, four_bit=_four_bit(job, source))
            shared = loaded[source.reference] = Side(key, words, model, tokenizer)
        if not adapted and not hasattr(shared.model, "peft_config"):
            raise UserError(f"{source.words} is no adapter, so nothing can be left out of it: name the other model")
        sides.append(Side(key, words, shared.model, shared.tokenizer, adapted))
    return sides


def _four_bit(job: Job, source: Source) -> bool:
    wanted = job.args.get("four_bit")
    return source.quantized if wanted is None else bool(wanted)


def _told(side: Side) -> dict[str, Any]:
    """What a viewer should know of a side."""
    base = side.model.get_base_model() if hasattr(side.model, "peft_config") else side.model
    quantised = bool(getattr(base, "is_quantized", False))
    weights = "4-bit" if getattr(base, "is_loaded_in_4bit", False) else "8-bit" if quantised else str(base.dtype).removeprefix("torch.")
    return {
        "side": side.key,
        "words": side.words,
        "weights": weights,
        "device": str(side.model.device),
        "template": bool(side.tokenizer.chat_template),
        "room": side.room,
    }


class Chat:
    """The conversation. `asked`: seconds of the monotonic clock, of the last question."""

    def __init__(self, job: Job, sides: list[Side], system: str) -> None:
        self.job = job
        self.sides = sides
        self.system = system
        self.params = Params()
        self.before: list[Message] = []  # turns that came whole with `messages`
        self.turns: list[Turn] = []
        self.count = 0
        self.asked = time.monotonic()
        self._interrupted = False
        self._look_due = 0.0

    def take(self, command: Command) -> None:
        """Carry out a command; what is wrong with it is its answer."""
        self.asked = time.monotonic()
        args: dict[str, Any] = command.get("args") or {}
        try:
            match command["op"]:
                case "ask":
                    self._ask(command, args)
                case "regenerate":
                    self._regenerate(command, args)
                case "reset":
                    self._reset(args)
                    self.job.answer(command)
                case "probabilities":
                    self._probabilities(command, args)
                case _:
                    self.job.answer(command, "nothing is being answered")
        except UserError as error:
            self.job.answer(command, str(error))
        self.asked = time.monotonic()

    def _ask(self, command: Command, args: dict[str, Any]) -> None:
        params = self.params.with_values(_table(args.get("params")))
        before, system, text = self.before, str(args.get("system", self.system) or ""), args.get("text")
        fresh = "messages" in args
        if fresh:
            *before, last = _messages(args["messages"])
            text = last["content"]
        if not isinstance(text, str) or not text.strip():
            raise UserError("ask takes `text`, or `messages` that end with a user's")
        if (size := len(encode({"text": text, "system": system}))) > LONGEST:
            raise UserError(f"question and system prompt take {size:,} bytes, and a chat can tell {LONGEST:,}: shorten them")
        turn = Turn(self.count + 1, text)
        turns = [] if fresh else self.turns
        for side in self._chosen(args):
            turn.prompts[side.key] = prompt_ids(side, self._conversation(side, system, before, turns, text))
        if fresh:
            self.turns.clear()
        self.params, self.before, self.system = params, before, system
        self.count += 1
        self.turns.append(turn)
        self._begin(command, turn)

    def _regenerate(self, command: Command, args: dict[str, Any]) -> None:
        if not self.turns:
            raise UserError("there is no turn yet to answer again")
        self.params = self.params.with_values(_table(args.get("params")))
        self.turns[-1].answers.clear()
        self._begin(command, self.turns[-1], again=True, seed=_table(args.get("params")).get("seed"))

    def _begin(self, command: Command, turn: Turn, *, again: bool = False, seed: int | None = None) -> None:
        wanted = seed if again else self.params.seed  # the chat's own seed would give the same answer again
        seed = random.SystemRandom().randrange(2**31) if wanted is None else wanted
        told = {**self.params.as_dict(), "seed": seed}
        self.job.emit("turn", turn=turn.number, text=turn.text, system=self.system, params=told, again=again, sides=list(turn.prompts))
        self.job.answer(command, turn=turn.number, seed=seed)
        self._interrupted = False
        for side in self.sides:
            if side.key in turn.prompts and not self._interrupted:
                self._answer(turn, side, seed)

    def _answer(self, turn: Turn, side: Side, seed: int) -> None:
        out = _Speech(self.job, turn.number, side.key)
        try:
            found = answer(side, turn.prompts[side.key], self.params, seed, out.say, self._over)
        except torch.OutOfMemoryError:
            _free()
            out.end(ended="memory", error=f"{side.words}: the memory ran out over this answer: ask for fewer tokens, or begin anew (reset)")
            return
        turn.answers[side.key] = found
        out.end(
            tokens=found.tokens,
            prompt_tokens=found.prompt_tokens,
            seconds=round(found.seconds, 3),
            first_token_s=round(found.first, 3),
            tokens_per_second=found.speed and round(found.speed, 1),
            ended=found.ended,
        )

    def _over(self) -> bool:
        """Looked at after each token: whether somebody has had enough."""
        if (now := time.monotonic()) >= self._look_due:
            self._look_due = now + LOOK_S
            for command in self.job.commands():
                if command["op"] == "interrupt":
                    self._interrupted = True
                    self.job.answer(command)
                else:
                    self.job.answer(command, "it is answering: interrupt that first")
        return self._interrupted or self.job.stop.asked

    def _reset(self, args: dict[str, Any]) -> None:
        self.turns.clear()
        self.before = []
        self.system = str(args.get("system", self.system) or "")
        self.job.emit("reset", system=self.system)

    def _probabilities(self, command: Command, args: dict[str, Any]) -> None:
        number = args.get("turn", self.turns[-1].number if self.turns else None)
        turn = next((one for one in self.turns if one.number == number), None)
        top = args.get("top", 5)
        if turn is None:
            raise UserError("there is no such turn in this conversation")
        if not isinstance(top, int) or not 1 <= top <= 20:
            raise UserError("top is how many tokens to show at each place, 1 to 20")
        for side in self._chosen(args):
            if (said := turn.answers.get(side.key)) is None:
                continue
            try:
                tokens = probabilities(side, turn.prompts[side.key], said.ids, top)
            except torch.OutOfMemoryError:
                _free()
                raise UserError(f"{side.words}: the memory ran out over this: the conversation is too long for it") from None
            for start in range(0, max(1, len(tokens)), PORTION):
                portion = tokens[start : start + PORTION]
                last = start + PORTION >= len(tokens)
                self.job.emit("probabilities", turn=turn.number, side=side.key, start=start, tokens=portion, last=last)
        self.job.answer(command, turn=turn.number)

    def _chosen(self, args: dict[str, Any]) -> list[Side]:
        wanted = args.get("sides") or [side.key for side in self.sides]
        found = [side for side in self.sides if isinstance(wanted, list) and side.key in wanted]
        if not found:
            raise UserError(f"sides is a list of {', '.join(side.key for side in self.sides)}")
        return found

    def _conversation(self, side: Side, system: str, before: list[Message], turns: list[Turn], text: str) -> list[Message]:
        """What the side has heard and said, and the question."""
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        messages += before
        for turn in turns:
            if (said := turn.answers.get(side.key)) is not None:
                messages += [{"role": "user", "content": turn.text}, {"role": "assistant", "content": said.text}]
        return [*messages, {"role": "user", "content": text}]


class _Speech:
    """The pieces of one answer, told at most ten times a second."""

    def __init__(self, job: Job, turn: int, side: str) -> None:
        self._job, self._turn, self._side = job, turn, side
        self._waiting = ""
        self._due = 0.0

    def say(self, text: str) -> None:
        """Take a piece; tell it when it is time."""
        self._waiting += text
        if time.monotonic() >= self._due:
            self._tell()

    def end(self, **facts: Any) -> None:
        """Tell what is left, and how it ended."""
        self._tell()
        self._job.emit("said", turn=self._turn, side=self._side, **facts)

    def _tell(self) -> None:
        if self._waiting:
            self._job.emit("say", turn=self._turn, side=self._side, text=self._waiting)
            self._waiting, self._due = "", time.monotonic() + SAY_S


def _messages(value: Any) -> list[Message]:
    good = (
        isinstance(value, list)
        and value
        and all(isinstance(one, dict) and one.get("role") in ROLES and isinstance(one.get("content"), str) for one in value)
    )
    if not good or value[-1]["role"] != "user":
        raise UserError('messages is a list of {"role": …, "content": …} that ends with a user\'s')
    return [{"role": one["role"], "content": one["content"]} for one in value]


def _table(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError('params is a table, e.g. {"temperature": 0.2}')
    return value


def _free() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
