"""What a run has beside its training proper: micro-batches that fit (split_batch), answers (sample_rounds), alarms (watching), forgetting.

The control mixin calls it at four places: the training step, before and after the boundary's own work, and as a callback of the trainer. It
stops nothing itself: what it finds goes into the journal, and what the recipe wants done about it into `orders`.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

from tuitune.errors import UserError
from tuitune.runs.checkpoints import checkpoints_of, is_complete
from tuitune.runs.directory import RunDirectory
from tuitune.trainer.build import Built
from tuitune.trainer.forgetting import ForgettingProbe, first_probe, probe_of
from tuitune.trainer.optimizer_retry import guard_optimizer
from tuitune.trainer.orders import Order
from tuitune.trainer.sample_rounds import SampleRounds
from tuitune.trainer.split_batch import SplitMemory, training_step
from tuitune.trainer.telemetry import Telemetry
from tuitune.trainer.watching import Alarm, Log, Watching, order


class Watch(TrainerCallback):  # type: ignore[misc]
    """One per trainer process that has a journal. `samples` also answers what a command asks."""

    def __init__(self, built: Built, run: RunDirectory, telemetry: Telemetry) -> None:
        self.trainer, self.run, self.telemetry = built.trainer, run, telemetry
        emit = telemetry.journal.emit
        self.memory = SplitMemory(lambda **fields: emit("oom", **fields))
        conversational = "conversational" in built.train.format
        self.samples = SampleRounds.of(built.recipe.watch, emit, run.samples, conversational=conversational)
        self.watching = Watching(scaled=bool(getattr(self.trainer.args, "fp16", False)))
        self.probe = probe_of(built.recipe.watch, built.recipe.base)
        self.rewarded = built.method.rewarded
        self.then: dict[str, Any] = (built.recipe.watch or {}).get("then") or {}
        self.orders: list[Order] = []
        """What alarms have ordered; whoever carries orders out takes them."""
        self.learning_rate: float | None = None
        self.poisoned = False
        """Whether loss or gradients are no numbers: nothing may be saved."""
        self._began: float | None = None  # the step at work
        self._step = -1  # the last that has passed the boundary; the end of an epoch calls there once more
        self._refused: set[str] = set()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The optimizer is prepared; the probe is measured before the first step; the clock of that step starts."""
        guard_optimizer(self.trainer, self.memory.tell)
        if self.probe is not None:
            self.probe.before = first_probe(self.run.journal)
            if self.probe.before is None:
                with self.telemetry.phase("evaluating"):
                    self._try("watch.forgetting_probe", self._probe, self.probe, state.global_step)
        self.step_begins()

    def training_step(self, trainer: Any, inner: Callable[..., torch.Tensor], model: Any, inputs: Any, items: Any = None) -> torch.Tensor:
        """The trainer's own step, in parts where memory asks for it."""
        return training_step(trainer, inner, model, inputs, items, self.memory)

    def before_boundary(self, trainer: Any, loss: Any, grad_norm: Any = None, *_: Any) -> None:
        """Every step, before it is logged or saved, with what the trainer hands to `_maybe_log_save_evaluate`."""
        if trainer.state.global_step == self._step:
            return
        seconds = 0.0 if self._began is None else time.monotonic() - self._began
        loss, norm = float(loss), None if grad_norm is None else float(grad_norm)
        fine = math.isfinite(loss) and (norm is None or math.isfinite(norm))
        log = Log(trainer.state.global_step, loss, norm, self.learning_rate, None if fine else self._newest())
        alarms = self.watching.step(log, seconds)
        self._tell(alarms)
        self.poisoned = any(alarm.pauses for alarm in alarms) or (self.poisoned and not fine)

    def after_boundary(self, trainer: Any) -> None:
        """The step's log, evaluation and checkpoint are done: answers, when they are due."""
        step = trainer.state.global_step
        if step != self._step and not self.poisoned:
            self._ask(step)
        self._step = step
        self.step_begins()

    def step_begins(self) -> None:
        """The clock of the next step starts: after the boundary, and once more when a pause or an order has taken its time there."""
        self._began = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """A log of the training (evaluations and the summary have no loss of this kind)."""
        if not logs or "loss" not in logs:
            return
        rate, norm = logs.get("learning_rate"), logs.get("grad_norm")
        self.learning_rate = None if rate is None else float(rate)
        if self.rewarded:
            return  # that loss is near 0 by its making and says nothing of how the training goes
        log = Log(state.global_step, float(logs["loss"]), None if norm is None else float(norm), self.learning_rate, self._newest())
        self._tell(self.watching.log(log))

    def _ask(self, step: int) -> None:
        """What is due after this step; none of it is training time."""
        probe = self.probe if self.probe is not None and self.probe.due(step) else None
        if probe is None and not self.samples.due(step):
            return
        with self.telemetry.phase("evaluating"):
            if self.samples.due(step):
                self._try("watch.prompts", self.samples.ask, self.trainer, step)
            if probe is not None:
                self._try("watch.forgetting_probe", self._probe, probe, step)

    def _probe(self, probe: ForgettingProbe, step: int) -> None:
        losses = probe.measure(self.trainer)
        alarm = probe.look(Log(step, losses["forgetting"], None, self.learning_rate), losses)
        self.telemetry.journal.emit("probe", step=step, metrics={name: round(loss, 5) for name, loss in losses.items()})
        self._tell([alarm] if alarm else [])

    def _try(self, key: str, work: Callable[..., object], *args: object) -> None:
        """Why it cannot be done is told once."""
        try:
            work(*args)
        except UserError as error:
            if str(error) not in self._refused:
                self.telemetry.journal.emit("warning", text=f"{key}: {error}")
            self._refused.add(str(error))

    def _tell(self, alarms: list[Alarm]) -> None:
        for alarm in alarms:
            self.telemetry.journal.emit("alarm", **vars(alarm))
            self.orders += [wanted] if (wanted := order(alarm, self.then)) else []

    def _newest(self) -> str | None:
        """The name of the newest whole checkpoint."""
        return next((folder.name for folder in checkpoints_of(self.run) if is_complete(folder)), None)
