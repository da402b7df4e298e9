"""What a checkpoint has to keep beyond what transformers keeps in it: what was changed by hand, and where in the data the training is.

It is written into trainer_state.json with the states of the callbacks. transformers would restore a callback by making a new one, and
derives the place in the data from the number of steps, which is wrong once the batch has changed; so ControlMixin reads it itself.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


@dataclass(frozen=True)
class Shape:
    """The batch of one process: rows of a micro-batch, and micro-batches of an update."""

    per_device_train_batch_size: int
    gradient_accumulation_steps: int

    @classmethod
    def of(cls, args: Any) -> "Shape":
        """Of TrainingArguments."""
        return cls(args.per_device_train_batch_size, args.gradient_accumulation_steps)

    def __str__(self) -> str:
        return f"{self.per_device_train_batch_size} × {self.gradient_accumulation_steps}"

    @property
    def rows(self) -> int:
        """Rows of an update, of one process."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps


@dataclass
class Progress:
    """`max_steps`: as set by hand; `strategies`: logging, save, eval → strategy, as set by hand; `tokens`: trained on so far, padding left
    out (TRL's own count begins anew at a resume); `epoch`, `rows`: whole epochs behind us, and rows of the present one, of all processes;
    `shape`: [rows of a micro-batch, micro-batches of an update]; `planned_steps`: for how many steps the learning rate was planned at the
    start; `ends`: with which step the training was to end."""

    max_steps: int | None = None
    strategies: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    epoch: int = 0
    rows: int = 0
    shape: tuple[int, int] | None = None
    planned_steps: int | None = None
    ends: int | None = None


class Kept(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Gives `progress` to every checkpoint. `begun` is called when the training begins or goes on, after the callbacks before this one."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.begun: Callable[[], None] | None = None

    def state(self) -> dict[str, Any]:
        """Plain data for trainer_state.json."""
        return {"args": {}, "attributes": asdict(self.progress)}

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Before the first step."""
        if self.begun is not None:
            self.begun()


def read_progress(checkpoint: Path) -> Progress | None:
    """What a checkpoint keeps; None when it was not written by a run of ours. OSError or ValueError when it cannot be read."""
    kept = json.loads((checkpoint / "trainer_state.json").read_bytes()).get("stateful_callbacks", {}).get(Kept.__name__)
    if not isinstance(kept, dict):
        return None
    values = {name: value for name, value in kept.get("attributes", {}).items() if name in Progress.__dataclass_fields__}
    progress = Progress(**values)
    progress.shape = (progress.shape[0], progress.shape[1]) if progress.shape else None
    return progress


def batches_to_skip(progress: Progress, shape: Shape, world: int) -> int:
    """Micro-batches of a process that begin the present epoch and are behind us, in whole updates of `shape`: up to an update less a row is
    seen twice when the shape has changed, and none when it has not."""
    return progress.rows // (shape.rows * world) * shape.gradient_accumulation_steps


def last_step(progress: Progress, shape: Shape, done: int, skipped: int, epochs: float, updates: int) -> int:
    """The step with which `epochs` end: `done` updates, and those left of the present epoch's and the following ones' `updates`."""
    return done + math.ceil(epochs * updates) - (progress.epoch * updates + skipped // shape.gradient_accumulation_steps)
