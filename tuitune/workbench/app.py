"""The workbench itself: lays out its parts, sends commands to the active view or to itself, and keeps the parts in step.

Views and the GPU panel are imported after the first paint; the folder and the runs are looked at in threads. What the app's own commands
do is in actions.py, how a run is started and stopped in run_control.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import localtime, strftime
from typing import TYPE_CHECKING, Literal

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import WorkerFailed

from tuitune.errors import UserError
from tuitune.runs.directory import runs_folder
from tuitune.text import printable
from tuitune.workbench import alt_keys, analysis, theme
from tuitune.workbench.actions import T
from tuitune.workbench.analysis import end_helpers
from tuitune.workbench.commands import registry
from tuitune.workbench.commands.registry import key_of
from tuitune.workbench.drafts import keep_drafts
from tuitune.workbench.line_actions import LineActions
from tuitune.workbench.parts.activity_bar import ActivityBar
from tuitune.workbench.parts.editor_area import EditorArea
from tuitune.workbench.parts.explorer import Explorer
from tuitune.workbench.parts.panel import Panel
from tuitune.workbench.parts.status_bar import KeyHints, StatusBar, key_items, status_items, steps
from tuitune.workbench.parts.tabs import TabBar
from tuitune.workbench.parts.welcome import Welcome
from tuitune.workbench.parts_shown import NARROW, SIDE, Wishes, parts_shown
from tuitune.workbench.problem_list import counted
from tuitune.workbench.settings import load_settings
from tuitune.workbench.terminal.cell_diff import CellDiffMixin
from tuitune.workbench.terminal.repaint import PaintedScreen
from tuitune.workbench.views.view import View
from tuitune.workbench.watch import Seen, Watch
from tuitune.workbench.workspace import kind_of, run_view

if TYPE_CHECKING:
    from tuitune.workbench.gpu_feed import GpuFeed

GPU_GLANCE = 10.0  # seconds between looks at the GPUs for the status bar while the GPU panel is hidden

NO_RECIPES = "No recipe in this folder. `tuitune demo` makes a folder with one that is ready to run."


def _bindings() -> list[Binding]:
    """The registry's keys. Those that text fields need are left to the views (views/view.py)."""
    return [
        Binding(key, f"command('{command.id}')", command.title, show=False, priority=True)
        for command in registry.all_commands()
        for key in command.keys
        if not registry.is_plain(key)
    ]


class Workbench(CellDiffMixin, LineActions):
    """`directory` is the folder to work in, `open_path` what to open first, `runs_root` where runs are (default: runs in the folder),
    `warm_up` whether the analyst is started before anything asks for it, `slow` whether the line to the terminal carries little."""

    TITLE = "tuitune"
    CSS_PATH = "workbench.tcss"
    ENABLE_COMMAND_PALETTE = False
    PAUSE_GC_ON_SCROLL = True
    BINDINGS = [*_bindings()]

    class Looked(Message):
        """The watching thread has news about the folder or its runs."""

        def __init__(self, seen: Seen) -> None:
            super().__init__()
            self.seen = seen

    class GpuChanged(Message):
        """New GPU figures."""

    class HungUp(Message):
        """The terminal is gone."""

    def __init__(
        self, directory: Path, open_path: Path | None = None, runs_root: Path | None = None, *, warm_up: bool = False, slow: bool = False
    ) -> None:
        super().__init__()
        self._warm_up = warm_up
        alt_keys.teach()
        self.root = directory
        self.runs_root = runs_root or runs_folder(directory)
        self.settings, self._settings_note = load_settings()
        self.watch_line("slow" if slow else self.settings.line)
        self.wishes = Wishes(drawer="" if open_path else SIDE)
        self.seen = None
        self.checks = {}
        self.gpu_feed: GpuFeed | None = None
        self.watch_thread: Watch | None = None
        self._open_path = open_path
        self.editor = EditorArea(directory)
        self.explorer = Explorer(directory)
        self.panel = Panel()
        self._activity = ActivityBar()
        self._status = StatusBar()
        self._hints = KeyHints()
        self._main = Horizontal(id="main")
        self.gpu_side: Vertical | None = None
        self._told: set[str] = set()
        self.recent_commands: list[str] = []
        for item in theme.THEMES:
            self.register_theme(item)
        self.animation_level = "none"

    # Layout

    def get_default_screen(self) -> PaintedScreen:
        return PaintedScreen()

    def compose(self) -> ComposeResult:
        with self._main:
            yield self._activity
            yield self.explorer
            with Vertical(id="centre"):
                yield self.editor
                yield self.panel
        yield self._status
        yield self._hints

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return {**super().get_theme_variable_defaults(), **theme.VARIABLE_DEFAULTS}

    def on_mount(self) -> None:
        self._choose_first_theme()
        self.apply_parts()
        self.show_status()
        self.call_after_refresh(self._after_first_paint)

    def _choose_first_theme(self) -> None:
        default = theme.DEFAULT_16 if self.console.color_system == "standard" and not self.is_headless else theme.DEFAULT
        self.theme = self.settings.theme if self.settings.theme in self.available_themes else default

    async def _after_first_paint(self) -> None:
        if self._open_path is not None:
            await self.open_path(self._open_path)
        else:
            self.explorer.focus_list()
        await self._add_gpu_panel()
        terminal = None if self.is_headless or not sys.stdin.isatty() else sys.stdin.fileno()
        self.watch_thread = Watch(
            self.root, self.runs_root, lambda seen: self._post(self.Looked(seen)), lambda: self._post(self.HungUp()), terminal
        )
        self.watch_thread.start()
        if self._warm_up:
            analysis.warm_up(self)
        if self._settings_note:
            self.notify(self._settings_note, severity="warning")

    async def _add_gpu_panel(self) -> None:
        from tuitune.workbench.gpu_feed import GpuFeed
        from tuitune.workbench.parts.gpu_panel import GpuPanel

        self.gpu_feed = GpuFeed(self.root)
        self.gpu_feed.listen(lambda: self._post(self.GpuChanged()))
        self.gpu_side = Vertical(Static("GPU", classes="side-title"), GpuPanel(self.gpu_feed), id="gpu-side")
        self.gpu_side.display = False
        await self._main.mount(self.gpu_side)
        self.apply_parts()
        self._glance_at_gpus()
        self.set_interval(GPU_GLANCE, self._glance_at_gpus)

    def on_unmount(self) -> None:
        for check in self.checks.values():
            check.cancel.set()  # whoever quits does not wait for it
        if self.watch_thread is not None:
            self.watch_thread.stop()
        if self.gpu_feed is not None:
            self.gpu_feed.unwatch()
        end_helpers(self)

    def _post(self, message: Message) -> None:
        """post_message for threads; the loop may just have ended."""
        with suppress(RuntimeError):
            self.post_message(message)

    def apply_parts(self) -> None:
        """Show what the size, the settings and the wishes ask for."""
        parts = parts_shown(self.size.width, self.size.height, self.settings, self.wishes)
        self._activity.display = parts.activity
        self._hints.display = parts.hints
        _size(self.explorer, "width", parts.side)
        _size(self.panel, "height", parts.panel)
        if self.gpu_side is not None:
            _size(self.gpu_side, "width", parts.gpu)
        self._show_activities()
        self.show_status()

    def on_resize(self, event: events.Resize) -> None:
        self.call_later(self.apply_parts)  # App takes note of the new size after this handler

    def cell_diff_failed(self, why: str) -> None:
        self.output(f"The cell diff failed ({why}): what it cannot compare is written whole, so a slow line feels it. Please report this.")

    def action_redraw(self) -> None:
        """Paint every cell again."""
        self.redraw_terminal()

    # Commands

    async def action_command(self, command_id: str) -> None:
        """Run a command of the registry: on the active view when it has a handler for it, else here."""
        command = registry.by_id(command_id)
        if not command_id.startswith("quick."):
            self.recent_commands = [command_id, *(other for other in self.recent_commands if other != command_id)][:20]
        view = self.editor.active
        on_view = view is not None and command.holds(view.kind) and hasattr(view, f"action_{command.handler}")
        await self.run_action(command.handler, view if on_view else self)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A command's key counts only where its `when` holds and no question is open."""
        if action != "command":
            return True
        if len(self.screen_stack) > 1:
            return False
        view = self.editor.active
        return registry.by_id(str(parameters[0])).holds(view.kind if view else "")

    # Views

    async def open_path(self, path: Path) -> View | None:
        """Open a file, run or folder with the view that suits it."""
        return await self.open_view(kind_of(path), path)

    async def open_view(self, kind: str, path: Path) -> View | None:
        """Bring a file or run to the front; says so when that is not possible."""
        if kind == "run":
            kind = await asyncio.to_thread(run_view, path)
        try:
            view = await self.editor.open(kind, path)
        except (UserError, OSError) as error:
            self.notify(str(error), title="Not opened", severity="error")
            return None
        except Exception as error:  # a view that cannot be made costs its tab, not the workbench
            self._tell_fault(error, "Not opened")
            return None
        if self.size.width < NARROW and self.wishes.drawer:
            self.wishes = Wishes("", self.wishes.short_panel, self.wishes.maximised)
            self.apply_parts()
        return view

    async def on_view_open_requested(self, event: View.OpenRequested) -> None:
        await self.open_view(event.kind, event.path)

    def on_view_output_line(self, event: View.OutputLine) -> None:
        self.output(event.text)

    def on_view_run_news(self, event: View.RunNews) -> None:
        if event.view is self.editor.active:
            self._show_run(event.view)

    def _show_run(self, view: View | None) -> None:
        """Commands and answers of the run in front are in the panel."""
        self.panel.show_run(view.title if view else "", getattr(view, "run_state", None))

    def on_view_problems_changed(self) -> None:
        self.show_problems()

    def show_problems(self) -> None:
        """Bring the panel's list and the counts in the status bar up to date."""
        super().show_problems()
        self.show_status()

    def on_editor_area_active_changed(self) -> None:
        view = self.editor.active
        self.explorer.show_dirty(frozenset(view.path for view in self.editor.views.values() if view.dirty))
        self.show_problems()
        self._show_run(view)
        self._hints.show(view.kind if view else "")
        self._show_activities()
        self.show_status()

    def on_tab_bar_close_requested(self, event: TabBar.CloseRequested) -> None:
        if (view := self.editor.views.get(event.key)) is not None:
            self.close_view(view)

    async def on_explorer_chosen(self, event: Explorer.Chosen) -> None:
        await self.open_view(event.kind, event.path)

    async def on_panel_chosen(self, event: Panel.Chosen) -> None:
        await self.open_view(event.kind, event.path)

    # News from threads

    def on_workbench_looked(self, event: Looked) -> None:
        self.seen = event.seen
        self.explorer.show(event.seen)
        self.panel.show_queue(event.seen.living)
        if self.gpu_feed:
            self.gpu_feed.follow([run.path for run in event.seen.living])
        for welcome in self.query(Welcome):  # none any more when the news came while the app was leaving
            welcome.say("" if event.seen.workspace.recipes else NO_RECIPES)
        for note in {*event.seen.workspace.notes, event.seen.error} - self._told - {""}:
            self._told.add(note)
            self.output(note)
        if "greeting" not in self._told:
            self._told.add("greeting")
            self._greet(event.seen)
        self.show_status()

    def _greet(self, seen: Seen) -> None:
        if seen.living and (self.editor.active is None or self.editor.active.kind != "run"):
            run = seen.living[0]
            self.notify(f"{printable(run.name)} is {run.state}{steps(run)}. {key_of('run.attach')} opens it.", title="A run is alive")

    def on_workbench_gpu_changed(self) -> None:
        if self.gpu_feed is not None and not self.gpu_shown:
            self.gpu_feed.unwatch()
        self.show_status()

    def _glance_at_gpus(self) -> None:
        """Have the status bar's GPU figure renewed; the panel, when shown, keeps the feed going itself."""
        if self.gpu_feed is not None and not self.gpu_shown:
            self.gpu_feed.watch()

    def watch_folder(self) -> None:
        """Look at the folder and its runs now."""
        if self.watch_thread is not None:
            self.watch_thread.refresh()

    async def in_thread(self, work: Callable[[], T], *, failed: str = "Failed") -> T | None:
        """Do slow work beside the event loop; None when it failed (the reason is on screen under the title `failed`)."""
        try:
            return await asyncio.to_thread(work)
        except UserError as error:
            self.notify(str(error), title=failed, severity="error", timeout=10)
        except Exception as error:  # whatever happens in a thread is told, never a crash
            self._tell_fault(error, failed)
        return None

    # What is told

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """A toast, kept in OUTPUT as well. Foreign text is made printable; no markup unless asked for."""
        message = printable(message, newlines=True, limit=2000)
        self.output(f"{title}: {message}" if title else message)
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)

    def output(self, text: str) -> None:
        """Add to the OUTPUT page, with the time."""
        self.panel.add_output(strftime("%H:%M:%S", localtime()), printable(text, newlines=True))

    def _handle_exception(self, error: Exception) -> None:
        """Textual ends the app for any error. One in a worker is told instead; for all others drafts are kept first."""
        if isinstance(error, WorkerFailed):
            self._tell_fault(error.error, "Something went wrong")
            return
        self.save_drafts()
        super()._handle_exception(error)

    def _tell_fault(self, error: BaseException, title: str) -> None:
        for line in traceback.format_exception(error):
            self.output(line.rstrip())
        self.notify(f"{type(error).__name__}: {error} (details in OUTPUT)", title=title, severity="error", timeout=10)

    # Leaving without being asked

    def on_workbench_hung_up(self) -> None:
        self.leave_at_once(128 + signal.SIGHUP)

    def leave_at_once(self, code: int) -> None:
        """The terminal or the box wants us gone: keep drafts, end within a second whatever hangs. Safe in a signal handler."""
        last_resort = threading.Timer(0.6, os._exit, (code,))
        last_resort.daemon = True
        last_resort.start()
        self.save_drafts()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: self.exit(return_code=code))

    def save_drafts(self) -> list[Path]:
        """Keep the unsaved text of every open view; the files are offered when the recipe is opened again."""
        return keep_drafts(self.editor.views.values())

    # The two lines at the bottom and the bar at the left

    def _show_activities(self) -> None:
        view = self.editor.active
        on = {"view.explorer": self.explorer.display, "view.gpu": self.gpu_shown, "view.runs": view is not None and view.kind == "runs"}
        self._activity.show(frozenset(name for name, shown in on.items() if shown))

    def show_status(self) -> None:
        """Bring the status bar up to date."""
        view = self.editor.active
        living = self.seen.living if self.seen else ()
        counts = counted(self.panel.entries, "error"), counted(self.panel.entries, "warning")
        gpu = self.gpu_feed.summary if self.gpu_feed else ""
        items = status_items(view, living, gpu, counts, self.checking.doing if self.checking else "", self.link.words)
        if not self._hints.display:
            items += key_items(view.kind if view else "")
        self._status.show(items)


def _size(part: Widget, side: Literal["width", "height"], cells: int) -> None:
    part.display = cells > 0
    if cells:
        setattr(part.styles, side, cells)
