"""Commands at step boundaries: a mixin over any transformers Trainer.

The boundary is the end of `_maybe_log_save_evaluate`: the step's own log, evaluation and checkpoint are done, and a stop there runs no
extra micro-batch (run-control.md 2.1). Private names it leans on are pinned by tests/contract/test_trainer_internals.py. It touches
neither data order nor random state: with no command the losses are those of the plain trainer.
"""

import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from tuitune.bus.envelope import OPS
from tuitune.trainer.checkpoints import disk_refusal, mark_complete

if TYPE_CHECKING:
    import torch

    from tuitune.trainer.telemetry import Telemetry
    from tuitune.trainer.watch import Watch

_beside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tuitune-mark")  # no thread before the first checkpoint


class StopNow(BaseException):
    """There is nothing to save yet: the run ends where it is. No Exception, so that nobody takes it for a failure of his own."""


class StopRequest:
    """Set by a signal or a `stop` command; looked at at every boundary. Before `begin` a signal ends the run at once."""

    def __init__(self) -> None:
        self.asked = False
        self.begun = False
        self.save = True
        self.why = ""

    def ask(self, why: str, *, save: bool = True) -> None:
        """Stop at the next boundary."""
        self.asked, self.why, self.save = True, why, save

    def begin(self) -> None:
        """Training begins: from now on a stop waits for the boundary."""
        self.begun = True

    def listen_to_signals(self) -> None:
        """SIGTERM and SIGINT save and end; the second one aborts. A hang-up is nothing to a run."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.asked:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.ask(signal.Signals(number).name)
        if not self.begun:
            raise StopNow


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Python's, NumPy's, torch's and the GPU's random states are after the block what they were before it."""
    import random

    import numpy
    import torch

    states = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if devices:
            torch.cuda.set_rng_state_all(devices)


def controlled(trainer_class: type[Any]) -> type[Any]:
    """`trainer_class` with the control mixin on top."""
    return type(f"Controlled{trainer_class.__name__}", (ControlMixin, trainer_class), {})


class ControlMixin:
    """Set `telemetry` and `stop_request` before `train()`; without them it is the plain trainer."""

    telemetry: "Telemetry | None" = None
    stop_request: StopRequest | None = None
    watch: "Watch | None" = None  # WATCH
    saved_step = -1  # of the newest checkpoint that was written; its mark may be in the making
    _mark: "Future[None] | None" = None
    control: Any
    model: Any
    state: Any

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        def again() -> None:
            super(ControlMixin, self)._maybe_log_save_evaluate(*args, **kwargs)  # type: ignore[misc]

        fault = self.watch.before_boundary(self, *args) if self.watch is not None else None  # WATCH
        if fault is not None and self.stop_request is not None:  # WATCH: until control can pause
            self.stop_request.ask(fault.text, save=False)
        if self.watch is not None and self.watch.poisoned:  # WATCH: good checkpoints stay
            self.control.should_save = False
        again()
        if self.watch is not None:  # WATCH
            self.watch.after_boundary(self)
        if self.telemetry is None or self.stop_request is None:
            return
        self.telemetry.boundary(self.state.global_step)
        for command in self.telemetry.link.take():
            self._apply(command, again)
        if self.stop_request.asked and not self.control.should_training_stop:
            self.telemetry.state("stopping", step=self.state.global_step, why=self.stop_request.why)
            self.control.should_training_stop = True
            if self.stop_request.save and self.saved_step != self.state.global_step:
                self._now("save", again)

    def _apply(self, command: dict[str, Any], again: Any) -> None:
        assert self.telemetry is not None
        assert self.stop_request is not None
        op, step, error = command.get("op"), self.state.global_step, None
        arguments = command.get("args") or {}
        if op == "stop":
            self.stop_request.ask(f"stop by {command.get('by') or 'a command'}", save=arguments.get("save") is not False)
        elif op == "evaluate" and getattr(self, "eval_dataset", None) is None:
            error = "the recipe names no evaluation data (dataset.eval)"
        elif op in ("save", "evaluate"):
            self._now(op, again)
        else:
            error = f"unknown op {op!r}; this trainer takes {', '.join(OPS)}"
        self.telemetry.journal.emit("applied", id=command.get("id"), op=op, step=step, ok=error is None, error=error)
        self.telemetry.link.reply(str(command.get("id")), error is None, error, step=step)

    def _now(self, what: str, again: Any) -> None:
        """Save or evaluate at this boundary: the step's log is guarded by its number, so only the wanted part runs again. The random
        state is put back after it, so that training goes on as if nobody had asked."""
        setattr(self.control, f"should_{what}", True)
        with random_state_kept():
            again()

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> "torch.Tensor":
        """The trainer's own step; counts the tokens that went in (padding apart) without waiting for the GPU."""
        if self.telemetry is not None:
            self.telemetry.count(inputs)
        inherited: Any = super()
        if self.watch is not None and self.telemetry is not None:  # WATCH: a proof has no telemetry, and its failure is its result
            return self.watch.training_step(self, inherited.training_step, model, inputs, *args, **kwargs)
        result: torch.Tensor = inherited.training_step(model, inputs, *args, **kwargs)
        return result

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own training; returns when the last checkpoint is marked as well."""
        inherited: Any = super()
        try:
            return inherited.train(*args, **kwargs)
        finally:
            self._wait_for_mark()

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """The trainer's own checkpoint, then our mark that it is whole. A full disk costs this checkpoint, not the run.

        The mark hashes every byte, half a minute for a full fine-tune of 1.5B, so it is made beside the training; the `checkpoint` event
        comes when it is there. One at a time: the next checkpoint waits, because it may take this one away (save_total_limit).
        """
        inherited: Any = super()
        if self.telemetry is None:
            inherited._save_checkpoint(*args, **kwargs)
            return
        step, started = self.state.global_step, time.monotonic()
        folder = Path(self.args.output_dir) / f"checkpoint-{step}"  # type: ignore[attr-defined]
        with self.telemetry.phase("saving"):
            self._wait_for_mark()
            with self._disk_may_refuse(folder, step):
                inherited._save_checkpoint(*args, **kwargs)
                self.saved_step = step
                self._mark = _beside.submit(self._mark_checkpoint, folder, step, started)

    def _mark_checkpoint(self, folder: Path, step: int, started: float) -> None:
        assert self.telemetry is not None
        with self._disk_may_refuse(folder, step):
            size = mark_complete(folder, step)
            seconds = time.monotonic() - started
            self.telemetry.journal.emit("checkpoint", step=step, path=str(folder), bytes=size, seconds=seconds, complete=True)

    def _wait_for_mark(self) -> None:
        """Raises what went wrong with the mark, a refusing disk apart."""
        mark, self._mark = self._mark, None
        if mark is not None:
            mark.result()

    @contextmanager
    def _disk_may_refuse(self, folder: Path, step: int) -> Iterator[None]:
        """A checkpoint that the disk refuses is taken away and told."""
        assert self.telemetry is not None
        try:
            yield
        except Exception as error:
            reason = disk_refusal(error)
            if reason is None:
                raise
            shutil.rmtree(folder, ignore_errors=True)
            self.telemetry.journal.emit("checkpoint", step=step, path=str(folder), complete=False, error=reason)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The trainer's own evaluation, its state told."""
        inherited: Any = super()
        if self.telemetry is None:
            return dict(inherited.evaluate(*args, **kwargs))
        with self.telemetry.phase("evaluating"):
            metrics: dict[str, float] = inherited.evaluate(*args, **kwargs)
        self.telemetry.journal.emit("eval", step=self.state.global_step, metrics=metrics)
        return metrics
