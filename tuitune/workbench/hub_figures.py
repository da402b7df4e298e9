"""The newest GPU and host figures of a living run, read from its journal in the caller's thread."""

import os
import threading
from pathlib import Path
from time import monotonic

from tuitune.bus.journal import JournalTail
from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest
from tuitune.workbench.gpu_feed import GpuNow
from tuitune.workbench.gpu_reading import NOT_LOOKED
from tuitune.workbench.run_reduce import reduce
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.run.memory import torch_figures

CHUNK = 256 << 10  # bytes decoded at a time; a pause follows, so that a long history does not slow the keys


def is_here(run: Path) -> bool:
    """Whether the run is one of this box: on a shared disk there are others, whose figures say nothing about it."""
    try:
        return read_manifest(RunDirectory(run)).host == os.uname().nodename
    except UserError:
        return False


class HubFigures:
    """What the hub of one run says about the box, its trainer's own figures included."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._tail = JournalTail(RunDirectory(run).journal)
        self._state = RunState()
        self._told = monotonic()

    def look(self, stop: threading.Event, stale_s: float) -> GpuNow | None:
        """The figures now; None before the first ones, and when nothing has come for `stale_s` seconds."""
        state = self._state
        before = state.gpu_now, state.host_now
        while (records := self._tail.poll(CHUNK)) and not stop.wait(0.01):
            for record in records:
                reduce(state, record)
        if state.gpu_now is not before[0] or state.host_now is not before[1]:
            self._told = monotonic()
        if state.over or state.gpu_now is NOT_LOOKED or monotonic() - self._told > stale_s:
            return None
        return GpuNow(state.gpu_now, state.host_now, self.run.name, torch_figures(state))
