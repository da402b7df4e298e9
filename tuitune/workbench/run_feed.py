"""Reads one run's journal in a thread and hands its records to the event loop in portions that never delay a key.

The thread decodes (files, JSON, liveness of the processes); the event loop calls `advance` and takes records into the RunState for a
few milliseconds at a time. One message per flush, at most ten a second, never one per record. Imports nothing of Textual.
"""

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from tuitune.bus.journal import JournalTail
from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import LIVING, read_manifest
from tuitune.workbench import run_reduce
from tuitune.workbench.run_state import RunState

CHUNK = 256 << 10  # bytes decoded at a time: some 1,500 records
WAITING = 20_000  # records decoded but not yet taken; then the thread waits (the journal is the buffer, nothing is dropped)
LIVE, IDLE, LIVENESS = 0.1, 1.0, 2.0  # seconds between looks at the journal of a living and of an ended run, and at its processes
BUDGET = 0.008  # seconds the event loop spends on records at a time


class RunFeed:
    """One reader thread for one run. `notify` is called from that thread when there is something to take; it must be thread-safe."""

    def __init__(self, run: Path, notify: Callable[[], object]) -> None:
        self.run = RunDirectory(run)
        self.state = RunState()
        self.replaying = True  # until the history that was there at the start is read
        self.problem = ""  # one sentence when the journal cannot be read
        self._notify = notify
        self._told = False
        self._waiting: deque[dict[str, Any]] = deque()
        self._fate = ""  # what the manifest and /proc say: a state, "lost" among them
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"run-feed {run.name}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the run's processes live, as far as this box can see."""
        return self._fate in LIVING

    @property
    def caught_up(self) -> bool:
        """Whether the history that was there at the start is in the state. Event loop only."""
        return not self.replaying and not self._waiting

    def start(self) -> None:
        """Start reading from the journal's beginning."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the thread; records that were not taken are left."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def advance(self, budget_s: float = BUDGET) -> bool:
        """Take waiting records into the state for `budget_s` seconds; True when more are waiting. Event loop only."""
        self._told = False
        deadline = monotonic() + budget_s
        waiting = self._waiting
        while waiting:
            for _ in range(min(64, len(waiting))):
                self.take(waiting.popleft())
            if monotonic() > deadline:
                return True
        if self._fate == "lost" and not self.replaying:
            run_reduce.lost(self.state, "its hub and trainer are gone without a last word: both were killed, or the box was restarted")
        elif self.alive:
            run_reduce.found(self.state)
        return False

    def take(self, record: dict[str, Any]) -> None:
        """One record into the state."""
        run_reduce.reduce(self.state, record)

    def _read(self) -> None:
        tail = JournalTail(self.run.journal)
        looked = -LIVENESS
        while not self._stop.is_set():
            if len(self._waiting) >= WAITING:
                self._tell()
                self._stop.wait(0.02)
                continue
            try:
                records = tail.poll(CHUNK)
                problem = "" if self.run.journal.is_dir() else f"{self.run.journal} is gone: what is shown is what was read before."
            except OSError as error:
                records, problem = [], f"{self.run.journal} cannot be read: {error.strerror or error}."
            changed = problem != self.problem
            self.problem = problem
            self._waiting.extend(records)
            if not records:
                changed |= self.replaying
                self.replaying = False
                if monotonic() - looked >= LIVENESS:
                    looked = monotonic()
                    fate = self._look_at_processes()
                    if fate == "lost":  # they may have written their last words between the two looks
                        self._waiting.extend(tail.poll(CHUNK))
                    changed |= fate != self._fate
                    self._fate = fate
            if records or changed:
                self._tell()
            if not (records and self.replaying):
                self._stop.wait(IDLE if self.problem or self.state.over else LIVE)

    def _look_at_processes(self) -> str:
        """The run's state corrected by whether its processes live: "lost" when they are gone; "" when the manifest does not say."""
        try:
            return read_manifest(self.run).living_state()
        except UserError:
            return ""

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._notify()
