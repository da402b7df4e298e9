"""All runs of the workspace, newest first: state, step, loss, start, duration, recipe. Read in a thread every two seconds."""

import threading
from pathlib import Path
from time import time

from textual.app import ComposeResult
from textual.events import Resize
from textual.message import Message

from tuitune.runs.listing import RunSummary, list_runs
from tuitune.text import printable
from tuitune.workbench.commands import run as commands
from tuitune.workbench.parts.role_lines import RoleLines
from tuitune.workbench.parts.role_list import RoleList
from tuitune.workbench.views.run.rows import reason, table_lines
from tuitune.workbench.views.view import View

PERIOD = 2.0  # seconds between looks at the folder
NONE_YET = "No run in this folder yet: open a recipe and press F5."


class RunsTable(View):
    """`path` is the folder the runs are in."""

    kind = "runs"
    commands = commands.TABLE_COMMANDS
    DEFAULT_CSS = """
    RunsTable { layout: vertical; padding: 0 1; }
    RunsTable > #runs-titles { height: 1; }
    RunsTable > RoleList { height: 1fr; }
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
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="runs-table", daemon=True)

    @property
    def title(self) -> str:
        return "runs"

    def compose(self) -> ComposeResult:
        yield RoleLines([()], id="runs-titles")
        yield RoleList(id="runs-list")
        yield RoleLines([()], id="runs-reason")

    def on_mount(self) -> None:
        self._thread.start()

    def on_unmount(self) -> None:
        self._stop.set()

    def focus_content(self) -> None:
        self.query_one(RoleList).focus()

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
        self.status = f"{len(event.runs)} runs" + (f", {living} alive" if living else "")
        self._paint()

    def on_resize(self, event: Resize) -> None:
        self._paint()

    def on_role_list_moved(self) -> None:
        self._show_reason()

    def on_role_list_chosen(self, event: RoleList.Chosen) -> None:
        if isinstance(event.key, Path):
            self.post_message(self.OpenRequested("run", event.key))

    def action_open_run(self) -> None:
        self.query_one(RoleList).action_choose()

    def _paint(self) -> None:
        if self.runs is None or not self.is_mounted:
            return
        titles, lines = table_lines(self.runs, time(), max(20, self.size.width - 2))
        self.query_one("#runs-titles", RoleLines).show([titles if self.runs else ((NONE_YET, "dim"),)])
        self.query_one(RoleList).show_keyed(lines, [run.path for run in self.runs])
        self._show_reason()

    def _show_reason(self) -> None:
        current = self.query_one(RoleList).current
        run = next((run for run in self.runs or () if run.path == current), None)
        words = f"{printable(run.id)}: {reason(run)}" if run is not None and reason(run) else ""
        role = "error" if run is not None and run.state in ("failed", "lost", "unreadable") else "dim"
        self.query_one("#runs-reason", RoleLines).show([(), ((words, role),)])
