"""What live tuning adds to a run's state: commands, samples, alarms, seams. Plain data; nothing of Textual, no files, no threads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuitune.text import printable
from tuitune.workbench import figures

WORDS = 200  # characters of a value shown
BATCH, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"


@dataclass
class CommandState:
    """One command on its way: queued → applied or failed. `time` and `answered` are unix seconds; `old` and `new` as the trainer says."""

    id: str
    op: str = "?"
    by: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    state: str = "queued"
    step: int | None = None
    error: str = ""
    time: float = 0.0
    answered: float | None = None
    old: Any = None
    new: Any = None
    why: str = ""  # the alarm that it answers
    note: str = ""  # what it left: the name of a file

    @property
    def words(self) -> str:
        """What was asked, as `tuitune send` takes it: "set learning_rate=0.0001 kind=hold"."""
        return command_words(self.op, self.args)

    @property
    def outcome(self) -> str:
        """What it did, by whom and why: "learning_rate 2.00e-4 → 1.00e-4 by ada (divergence at step 410)"."""
        name = "batch" if self.op == "reshape" else printable(str(self.args.get("key") or self.op), limit=WORDS)
        by = f" by {self.by}" if self.by else ""
        if self.state == "failed":
            return f"{self.words}{by} failed: {self.error or 'no reason given'}"
        if self.new is not None:
            kind = self.args.get("kind")
            done = f"{name} {value_words(self.old)} → {value_words(self.new)}" + (f", {value_words(kind)}" if kind else "")
        else:
            done = f"{self.words} applied" + (f": {self.note}" if self.note else "")
        return f"{done}{by}" + (f" ({self.why})" if self.why else "")


def command_words(op: str, args: Mapping[str, Any]) -> str:
    """A command as it is typed; a setting by its own name: "set learning_rate=0.0001 kind=hold"."""
    rest = dict(args)
    if op == "set" and isinstance(rest.get("key"), str) and "value" in rest:
        rest = {rest.pop("key"): rest.pop("value"), **rest}
    words = [f"{key}={_quoted(value_words(value))}" for key, value in rest.items()]
    return printable(" ".join([op, *words]), limit=WORDS)


def value_words(value: Any) -> str:
    """A value in one line: numbers as metrics are written, mappings as "name value"."""
    if value is None:
        return figures.UNKNOWN
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value) if isinstance(value, int) else figures.number(value)
    if isinstance(value, Mapping) and value.keys() == {BATCH, ACCUMULATION}:
        return f"{value_words(value[BATCH])} × {value_words(value[ACCUMULATION])}"
    if isinstance(value, Mapping):
        return ", ".join(f"{printable(str(key), limit=60)} {value_words(item)}" for key, item in list(value.items())[:6])
    return printable(str(value), limit=WORDS)


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text


@dataclass(frozen=True)
class Sample:
    """An answer written during training. `step` None = not told; `stopped`: it ended with a stop token; `repetition` 0..1; `speed` in
    tokens per second. Texts are foreign: printable when they are shown."""

    time: float
    step: int | None
    prompt_id: str
    prompt: str
    text: str
    tokens: int | None = None
    stopped: bool | None = None
    repetition: float | None = None
    speed: float | None = None


@dataclass(frozen=True)
class Alarm:
    """Something that watching found. `op` and `args`: the command that the trainer proposes, "" when there is none."""

    time: float
    kind: str
    step: int | None
    text: str
    attempt: int
    op: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """ "divergence at step 410"."""
        return self.kind + (f" at step {self.step}" if self.step is not None else "")


@dataclass(frozen=True)
class Seam:
    """Where a later attempt took over: after `step`, from `checkpoint` ("" = from the beginning), with what had `changed` meanwhile."""

    attempt: int
    step: int | None
    checkpoint: str
    changed: tuple[str, ...]

    @property
    def words(self) -> str:
        """ "attempt 2 from step 400"."""
        return f"attempt {self.attempt} " + ("from the beginning" if not self.step else f"from step {self.step}")
