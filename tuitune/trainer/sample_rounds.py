"""The answers that a run tells while it trains: the recipe's prompts every so many steps, and whatever somebody asks."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from tuitune.bus.envelope import encode
from tuitune.files import write_atomically

EVERY = 50  # steps
NEW_TOKENS = 128
SECONDS = 30.0  # of one round: the run stands still meanwhile
LONGEST = 14 << 10  # bytes of one text in a record: three of them and the rest stay below the journal's 64 KiB


@dataclass
class SampleRounds:
    """`emit`: the journal's; `folder`: where texts go that are too long for a record (run/samples); `bases`: the base model's answers,
    asked for once a prompt."""

    emit: Callable[..., None]
    folder: Path
    conversational: bool
    prompts: list[str] = field(default_factory=list)
    every: int = EVERY
    max_new_tokens: int = NEW_TOKENS
    seconds: float = SECONDS
    bases: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, watch: Mapping[str, Any] | None, emit: Callable[..., None], folder: Path, *, conversational: bool) -> "SampleRounds":
        """As section `watch:` of a recipe says."""
        section = watch or {}
        names = ("prompts", "every", "max_new_tokens", "seconds")
        return cls(emit, folder, conversational, **{name: section[name] for name in names if section.get(name) is not None})

    def due(self, step: int) -> bool:
        """Whether the recipe's prompts are asked after this step."""
        return bool(self.prompts) and step % self.every == 0

    def ask(self, trainer: Any, step: int, prompts: Sequence[str] = (), max_new_tokens: int | None = None) -> int:
        """Answer the prompts (none: the recipe's) and tell a `sample` event for each; how many. UserError when it cannot be done."""
        from tuitune.trainer.sampling import sample, why_no_base

        asked = list(prompts) or self.prompts
        new = max_new_tokens or self.max_new_tokens
        limits: dict[str, Any] = {"conversational": self.conversational, "seconds": self.seconds}
        started = time.monotonic()
        answers = sample(trainer, asked, new, **limits)
        speed = sum(answer.tokens for answer in answers) / (time.monotonic() - started)
        no_base = why_no_base(trainer)
        unknown = [prompt for prompt in dict.fromkeys(asked) if prompt not in self.bases]
        if no_base is None and unknown:
            self.bases |= {answer.prompt: answer for answer in sample(trainer, unknown, new, base=True, **limits)}
        else:
            self.bases |= dict.fromkeys(unknown)
        for answer in answers:
            base = self.bases[answer.prompt] if answer.prompt in unknown else None
            self.emit(
                "sample",
                **self._fields(answer, step),
                base=base and self._text(base.text, f"{step}-{prompt_id(answer.prompt)}-base.txt")[0],
                base_stopped=base and base.stopped,
                base_repetition=base and round(base.repetition, 4),
                base_why=no_base if answer.prompt in unknown else None,
                tok_s=round(speed, 1),
                params={"do_sample": False, "max_new_tokens": new},
            )
        return len(answers)

    def _fields(self, answer: Any, step: int) -> dict[str, Any]:
        text, file = self._text(answer.text, f"{step}-{prompt_id(answer.prompt)}.txt")
        return {
            "step": step,
            "prompt_id": prompt_id(answer.prompt),
            "prompt": _cut(answer.prompt),
            "text": text,
            "file": file,
            "tokens": answer.tokens,
            "stopped": answer.stopped,
            "ended": answer.ended,
            "repetition": round(answer.repetition, 4),
        }

    def _text(self, text: str, name: str) -> tuple[str, str | None]:
        """What goes into the record; the file's name in run/samples when that is not all of it (null when the disk refuses)."""
        shown = _cut(text)
        if shown == text:
            return text, None
        try:
            write_atomically(self.folder / name, text, mode=0o600)
        except OSError:
            return shown, None
        return shown, name


def prompt_id(prompt: str) -> str:
    """The same for the same prompt in every round, attempt and run."""
    return sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _cut(text: str) -> str:
    """A text that takes at most LONGEST bytes in a record; a control character takes six there."""
    return text if len(encode({"text": text})) <= LONGEST else text[: LONGEST // 6]
