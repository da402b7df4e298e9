"""Checkpoints: the trainer's own, then our mark that they are whole. A mixin over any transformers Trainer."""

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuitune.trainer.checkpoints import disk_refusal, mark_complete
from tuitune.trainer.kept import Kept, Shape
from tuitune.trainer.spread import SpreadMixin

if TYPE_CHECKING:
    from tuitune.trainer.orders import Orders
    from tuitune.trainer.telemetry import Telemetry

_beside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tuitune-mark")  # no thread before the first checkpoint


class SavingMixin(SpreadMixin):
    """Without `telemetry` it is the plain trainer."""

    telemetry: "Telemetry | None" = None
    kept: Kept | None = None
    orders: "Orders | None" = None
    saved_step = -1  # of the newest checkpoint that was written; its mark may be in the making
    _mark: "Future[None] | None" = None
    _batches_in_epoch = 0
    args: Any
    state: Any
    accelerator: Any

    def checkpoint_folder(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return Path(self.args.output_dir) / f"checkpoint-{step}"

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """The trainer's own checkpoint, then our mark that it is whole. A full disk costs this checkpoint, not the run.

        The mark hashes every byte, half a minute for a full fine-tune of 1.5B, so it is made beside the training; the `checkpoint` event
        comes when it is there. One at a time: the next checkpoint waits, because it may take this one away (save_total_limit).

        Where the model is spread over the ranks all of them gather it for each file, so none can leave in the middle: whether the disk has
        room is asked before, and one that refuses all the same ends the attempt.
        """
        inherited: Any = super()
        if self.telemetry is None:
            inherited._save_checkpoint(*args, **kwargs)
            return
        step, started = self.state.global_step, time.monotonic()
        folder = self.checkpoint_folder(step)
        self._note_progress()
        with self.telemetry.phase("saving"):
            self.wait_for_mark()
            if self.orders is not None and self.spread and (refusal := self.orders.agree(self.no_room())):
                self.telemetry.journal.emit("checkpoint", step=step, path=str(folder), complete=False, error=refusal)
                return
            with self._disk_may_refuse(folder, step):
                inherited._save_checkpoint(*args, **kwargs)
                self.saved_step = step
            if self.args.world_size > 1:
                self.accelerator.wait_for_everyone()  # each rank writes its random state
            if self.args.should_save and self.saved_step == step:  # one process marks what all have written
                self._mark = _beside.submit(self._mark_checkpoint, folder, step, started)

    def _note_progress(self) -> None:
        """Bring what the checkpoint keeps up to date."""
        if self.kept is None or self.telemetry is None:
            return
        progress, shape = self.kept.progress, Shape.of(self.args)
        progress.epoch = int(self.state.epoch + 1e-9)  # a whole number when an epoch has just ended
        batches = round((self.state.epoch - progress.epoch) * self._batches_in_epoch)
        progress.rows = batches * shape.per_device_train_batch_size * self.args.world_size
        progress.shape = (shape.per_device_train_batch_size, shape.gradient_accumulation_steps)
        progress.ends = self.state.max_steps
        progress.tokens = self.telemetry.tokens

    def _mark_checkpoint(self, folder: Path, step: int, started: float) -> None:
        assert self.telemetry is not None
        with self._disk_may_refuse(folder, step):
            size = mark_complete(folder, step)
            seconds = time.monotonic() - started
            self.telemetry.journal.emit("checkpoint", step=step, path=str(folder), bytes=size, seconds=seconds, complete=True)

    def wait_for_mark(self) -> None:
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
            if reason is None or self.spread:
                raise
            shutil.rmtree(folder, ignore_errors=True)
            self.telemetry.journal.emit("checkpoint", step=step, path=str(folder), complete=False, error=reason)
