"""A snapshot of the GPU's memory over one step, in torch's own form: every allocation with the Python lines that made it.

Written into the run's folder; `python -m torch.cuda._memory_viz trace_plot FILE` (or stats, segments) shows it. It is a pickle of torch's:
open only those of your own runs.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from tuitune.trainer.orders import Refused

ENTRIES = 200_000  # allocations and frees that are remembered; a step of a 7B model has some 50,000


class Snapshot:
    """Records from `begin` to the next boundary. Recording slows that step; nothing is recorded else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._step = 0
        self._written: Callable[[Path, str | None], None] | None = None

    def begin(self, step: int, written: Callable[[Path, str | None], None]) -> None:
        """Record step number `step`; `written` is called with the file and, if so, why it could not be written. Refused without a GPU,
        or while one is being made."""
        if not torch.cuda.is_initialized():
            raise Refused("the snapshot is of GPU memory, and this run uses none")
        if self._written is not None:
            raise Refused("a snapshot is being made already")
        torch.cuda.memory._record_memory_history(max_entries=ENTRIES)
        self._step, self._written = step, written

    def boundary(self) -> None:
        """The recorded step has ended: write it."""
        written, self._written = self._written, None
        if written is None:
            return
        path, error = self._folder / f"step-{self._step}.pickle", None
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            torch.cuda.memory._dump_snapshot(str(path))
        except OSError as refused:
            error = f"{path} cannot be written ({refused.strerror}); make room and try again"
        finally:
            torch.cuda.memory._record_memory_history(enabled=None)
        written(path, error)
