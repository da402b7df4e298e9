"""All runs of the workspace, newest first: state, step, loss, start, duration, recipe. Read in a thread every two seconds."""

import threading
from pathlib import Path
from time import time

from textual import work
from textual.app import ComposeResult
from textual.events import Resize
from textual.message import Message

from tuitune.runs.listing import RunSummary, list_runs
from tuitune.text import printable
from tuitune.workbench.commands import run as commands
from tuitune.workbench.commands.registry import key_of
from tuitune.workbench.parts.gpu_panel import wrapped
from tuitune.workbench.parts.role_lines import RoleLines, as_content
from tuitune.workbench.views.compare_view import comparison_path
from tuitune.workbench.views.run.resuming import resume_ended
from tuitune.workbench.views.run.rows import reason, table_lines
from tuitune.workbench.views.view import View
from tuitune.workbench.widgets.line_list import LineList

PERIOD = 2.0  # seconds between looks at the folder
NONE_YET = "No run in this folder yet: open a recipe and press F5."


class RunsTable(View):
    """`path` is the folder the runs are in."""

    kind = "runs"
    commands = commands.TABLE_COMMANDS
    DEFAULT_CSS = """
    RunsTable { layout: vertical; padding: 0 1; }
    RunsTable > #runs-titles { height: 1; }
    RunsTable > #runs-reason { height: 2; }
    """

    class Listed(Message):
        """The reading thread has the runs."""

        def __init__(self, runs: list[RunSummary]) -> None:
            super().__init__()
            self.runs = runs

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.runs: list[RunSummary] | None = None
        self.marked: set[str] = set()  # ids of the runs to be compared
        self._at: Path | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="runs-table", daemon=True)

    @property
    def title(self) -> str:
        return "runs"

    def compose(self) -> ComposeResult:
        yield RoleLines([()], id="runs-titles")
        yield LineList(id="runs-list")
        yield RoleLines([()], id="runs-reason")

    def on_mount(self) -> None:
        self._thread.start()

    def on_unmount(self) -> None:
        self._stop.set()

    def focus_content(self) -> None:
        self.query_one(LineList).focus()

    def _read(self) -> None:
        last: list[RunSummary] | None = None
        while True:
            runs = list_runs(self.path)
            if (runs != last or any(run.alive for run in runs)) and not self._stop.is_set():
                last = runs
                self.post_message(self.Listed(runs))
            if self._stop.wait(PERIOD):
                return

    def on_runs_table_listed(self, event: Listed) -> None:
        self.runs = event.runs
        living = sum(run.alive for run in event.runs)
        self.status = ("1 run" if len(event.runs) == 1 else f"{len(event.runs)} runs") + (f", {living} alive" if living else "")
        self._paint()

    def on_resize(self, event: Resize) -> None:
        self._paint()

    def on_line_list_moved(self) -> None:
        self._show_reason()

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        if (run := self.current) is not None:
            self.post_message(self.OpenRequested("run", run.path))

    def action_open_run(self) -> None:
        """The dashboard of the run under the cursor."""
        self.query_one(LineList).action_choose()

    def action_mark_run(self) -> None:
        """Mark the run under the cursor for a comparison, or no more; the cursor goes on."""
        if (run := self.current) is not None:
            self.marked ^= {run.id}
            self._paint()
            self.query_one(LineList).action_move(1)

    def action_compare_runs(self) -> None:
        """The marked runs beside each other; the one under the cursor joins a single marked one."""
        known = [run.id for run in self.runs or ()]
        wanted = [name for name in known if name in self.marked]
        if len(wanted) == 1 and (run := self.current) is not None and run.id not in wanted:
            wanted.append(run.id)
        if len(wanted) < 2:
            self.notify(f"Mark two or more runs first ({key_of('runs.mark')}).")
        else:
            self.post_message(self.OpenRequested("compare", comparison_path(self.path, wanted)))

    @work(exclusive=True, group="resume")
    async def action_resume(self) -> None:
        """A new attempt of the run under the cursor, after a question."""
        run = self.current
        if run is not None and await resume_ended(self, run.path):
            self.post_message(self.OpenRequested("run", run.path))

    def _paint(self) -> None:
        if self.runs is None or not self.is_mounted:
            return
        titles, lines = table_lines(self.runs, time(), max(20, self.size.width - 2), frozenset(self.marked))
        self.query_one("#runs-titles", RoleLines).show([titles if self.runs else ((NONE_YET, "dim"),)])
        rows = self.query_one(LineList)
        rows.show([as_content(line) for line in lines])
        rows.cursor = next((index for index, run in enumerate(self.runs) if run.path == self._at), rows.cursor)
        self._show_reason()

    @property
    def current(self) -> RunSummary | None:
        """The run under the cursor."""
        cursor = self.query_one(LineList).cursor
        return self.runs[cursor] if self.runs and 0 <= cursor < len(self.runs) else None

    def _show_reason(self) -> None:
        run = self.current
        self._at = run.path if run is not None else None  # the cursor stays on its run when a newer one comes in above it
        words = f"{printable(run.id)}: {reason(run)}" if run is not None and reason(run) else ""
        role = "error" if run is not None and run.state in ("failed", "lost", "unreadable") else "dim"
        self.query_one("#runs-reason", RoleLines).show([*wrapped(words, max(20, self.size.width - 2), role), (), ()][:2])
