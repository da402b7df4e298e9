"""A thread that keeps an eye on the folder and its runs, so that the event loop never touches the disk.

It looks at once when woken, at living runs every second, at the folder every three. Imports nothing of Textual; `tell` must be
thread-safe (App.post_message is).
"""

import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from tuitune.workbench.workspace import Workspace, changed, scan

if TYPE_CHECKING:
    from tuitune.runs.listing import RunSummary

PERIOD, FOLDER_PERIOD = 1.0, 3.0


@dataclass(frozen=True)
class Seen:
    """What is there now; `runs` newest first. `error`: one sentence when something could not be looked at."""

    workspace: Workspace
    runs: tuple["RunSummary", ...] = ()
    error: str = ""

    @property
    def living(self) -> tuple["RunSummary", ...]:
        """The runs that go on right now."""
        return tuple(run for run in self.runs if run.alive)


class Watch:
    """Calls `tell(seen)` from its thread whenever something is new, and `hung_up()` when the terminal has gone away."""

    def __init__(
        self, root: Path, runs_root: Path, tell: Callable[[Seen], object], hung_up: Callable[[], object], terminal: int | None
    ) -> None:
        self._root, self._runs_root = root, runs_root
        self._tell, self._hung_up, self._terminal = tell, hung_up, terminal
        self._looked = 0.0
        self._runs_mark: object = None
        self._wake, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="workspace-watch", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def refresh(self) -> None:
        """Look at everything now."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread soon; does not wait for it."""
        self._end.set()
        self._wake.set()

    def _run(self) -> None:
        seen: Seen | None = None  # the last look that succeeded
        told: Seen | None = None
        while not self._end.is_set():
            woken = self._wake.is_set()
            self._wake.clear()
            try:
                seen = now = self._look(seen, woken)
            except Exception as error:  # a thread that ended without a word would leave the old picture standing for ever
                why = f"{self._root} could not be looked at ({type(error).__name__}: {error}); it is tried again."
                now, seen = Seen(seen.workspace if seen else Workspace(self._root), seen.runs if seen else (), why), None
            if now != told:
                told = now
                self._tell(now)
            if self._terminal is not None and _gone(self._terminal):
                self._hung_up()
                return
            self._wake.wait(PERIOD)

    def _look(self, seen: Seen | None, woken: bool) -> Seen:
        """What is there now; the parts that cannot have changed are taken from `seen`."""
        due = woken or monotonic() - self._looked > FOLDER_PERIOD
        workspace = seen.workspace if seen else None
        if workspace is None or woken or (due and changed(workspace)):
            workspace = scan(self._root, self._runs_root)
        if due:
            self._looked = monotonic()
        mark = _mark(self._runs_root)
        runs, error = (seen.runs, seen.error) if seen else ((), "")
        if woken or seen is None or mark != self._runs_mark:
            runs, error = self._list_runs()
            self._runs_mark = mark
        elif seen.living:
            runs = _renewed(seen.runs)
        return Seen(workspace, runs, error)

    def _list_runs(self) -> tuple[tuple["RunSummary", ...], str]:
        from tuitune.errors import UserError
        from tuitune.runs.listing import list_runs

        try:
            return tuple(list_runs(self._runs_root)), ""
        except (OSError, UserError, ValueError) as error:
            return (), f"the runs in {self._runs_root} cannot be listed: {error}"


def _renewed(runs: tuple["RunSummary", ...]) -> tuple["RunSummary", ...]:
    """The same runs with the living ones looked at again: a folder with a thousand old runs costs nothing while one trains."""
    from tuitune.runs.directory import RunDirectory
    from tuitune.runs.listing import summarize

    return tuple((summarize(RunDirectory(run.path)) or run) if run.alive else run for run in runs)


def _mark(folder: Path) -> object:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None


def _gone(terminal: int) -> bool:
    """Whether the other end of the terminal was closed (a hang-up whose signal did not reach us)."""
    poll = select.poll()
    poll.register(terminal, 0)
    try:
        return any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))
    except OSError:
        return False
