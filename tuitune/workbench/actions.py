"""What the commands of commands/app.py do: one `action_…` method for each handler. Workbench (app.py) makes the parts they work on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from textual.app import App
from textual.widget import Widget

from tuitune.workbench.commands.registry import PROBLEMS
from tuitune.workbench.parts_shown import GPU, NARROW, SHORT, SIDE, Wishes
from tuitune.workbench.settings import Settings, save_settings
from tuitune.workbench.terminal.round_trip import RoundTrip

if TYPE_CHECKING:
    from tuitune.workbench.gpu_feed import GpuFeed
    from tuitune.workbench.parts.editor_area import EditorArea
    from tuitune.workbench.parts.explorer import Explorer
    from tuitune.workbench.parts.panel import Panel
    from tuitune.workbench.views.view import View
    from tuitune.workbench.watch import Seen

T = TypeVar("T")


class InThread(Protocol):
    """Workbench.in_thread."""

    async def __call__(self, work: Callable[[], T], *, failed: str = "Failed") -> T | None: ...


class Actions(App[int]):
    """The commands' handlers. The attributes, methods among them, are Workbench's."""

    root: Path
    runs_root: Path
    settings: Settings
    wishes: Wishes
    seen: Seen | None
    gpu_feed: GpuFeed | None
    gpu_side: Widget | None
    editor: EditorArea
    explorer: Explorer
    panel: Panel
    open_view: Callable[[str, Path], Coroutine[Any, Any, View | None]]
    in_thread: InThread
    round_trip: RoundTrip
    apply_parts: Callable[[], None]
    watch_folder: Callable[[], None]

    # Quick open

    def action_quick_open(self) -> None:
        """Files, recipes and runs."""
        self._pick("")

    def action_quick_commands(self) -> None:
        """The command palette."""
        self._pick(">")

    def action_quick_symbols(self) -> None:
        """Sections and keys of the active recipe."""
        self._pick("@")

    def action_quick_line(self) -> None:
        """A line by its number."""
        self._pick(":")

    def action_help(self) -> None:
        """All keys that hold here."""
        from tuitune.workbench.parts.help import Help

        in_panel = self.panel.display and self.panel in (self.focused.ancestors if self.focused is not None else ())
        self.push_screen(Help(PROBLEMS if in_panel else self.editor.active.kind if self.editor.active else ""))

    def _pick(self, text: str) -> None:
        from tuitune.workbench.parts.picker import Picker

        self.push_screen(Picker(text))

    # Runs

    def action_run_stop(self) -> None:
        """Stop the run on screen, else the newest living one."""
        from tuitune.workbench import run_control

        living = self.seen.living if self.seen else ()
        active = self.editor.active
        if active is not None and active.kind == "run":
            work = run_control.stop_on_screen(self, active)
        elif living:
            work = run_control.stop(self, living[0])
        else:
            self.notify("No run is alive in this folder.")
            return
        self.run_worker(work, group="run-stop", exclusive=True, exit_on_error=False)

    def action_chat_open(self) -> None:
        """A chat with a model that is asked for."""
        self._chat("")

    def action_chat_run(self) -> None:
        """A chat with the run on screen, or the one under the cursor."""
        view = self.editor.active
        run = getattr(view, "current", None) if view is not None and view.kind == "runs" else view
        self._chat(str(run.path) if run is not None else "")

    def _chat(self, model: str) -> None:
        from tuitune.workbench import chat_control

        self.run_worker(chat_control.open_chat(self, model), group="chat", exclusive=True, exit_on_error=False)

    async def action_run_attach(self) -> None:
        """The dashboard of the newest living run, else of the newest run."""
        runs = (self.seen.living or self.seen.runs) if self.seen else ()
        if runs:
            await self.open_view("run", runs[0].path)
        else:
            self.notify("No run in this folder yet: open a recipe and press F5.")

    # Tabs

    def action_save(self) -> None:
        """Write the active view to disk; a worker, because the view may have a question first."""
        if self.editor.active is not None:
            self.run_worker(self.editor.active.save(), group="save", exit_on_error=False)

    def action_close_tab(self) -> None:
        """Close the active tab, after a question when something would be lost."""
        if self.editor.active is not None:
            self.close_view(self.editor.active)

    def close_view(self, view: View) -> None:
        """Close a tab, after a question when something would be lost."""
        self.run_worker(self._close(view), group="close", exit_on_error=False)

    async def _close(self, view: View) -> bool:
        if not await self.may_lose(view):
            return False
        await self.editor.close(view)
        if self.editor.active is None:
            self.action_show_explorer()
        return True

    async def may_lose(self, view: View) -> bool:
        """Ask about unsaved changes; False = the user wants to stay. Only from a worker."""
        from tuitune.workbench.parts.confirm import Choice, Confirm

        question = view.close_guard()
        if question is None:
            return True
        choices = [Choice("s", "Save", "save"), Choice("d", "Discard", "drop")] if view.dirty else [Choice("c", "Close", "drop")]
        answer = await self.push_screen_wait(Confirm(question, [], choices))
        if answer == "drop":
            view.give_up()
        return answer == "drop" or (answer == "save" and await view.save())

    def action_next_tab(self) -> None:
        """To the right, round the end."""
        self.editor.step(1)

    def action_previous_tab(self) -> None:
        """To the left, round the end."""
        self.editor.step(-1)

    def action_split(self) -> None:
        """Two panes, or one."""
        if not self.editor.split():
            self.notify("Open a second tab first: then one goes to each side.")

    # Parts on screen

    def action_show_explorer(self) -> None:
        """Show the explorer and give it the keyboard."""
        if self.size.width < NARROW:
            self.wishes = Wishes(SIDE, self.wishes.short_panel)
        else:
            self.wishes = Wishes(self.wishes.drawer, self.wishes.short_panel)
            self.settings.side_bar = True
            self._keep_settings()
        self.apply_parts()
        self.explorer.focus_list()

    async def action_show_runs(self) -> None:
        """The table of all runs."""
        await self.open_view("runs", self.runs_root)

    def action_toggle_side_bar(self) -> None:
        """Show or hide the explorer."""
        if not self.explorer.display:
            self.action_show_explorer()
            return
        if self.size.width < NARROW:
            self.wishes = Wishes("", self.wishes.short_panel)
        else:
            self.settings.side_bar = False
            self._keep_settings()
        self.apply_parts()

    def action_toggle_gpu(self) -> None:
        """Show or hide the GPU panel."""
        shown = self.gpu_shown
        if self.size.width < NARROW:
            self.wishes = Wishes("" if shown else GPU, self.wishes.short_panel)
        else:
            self.wishes = Wishes(self.wishes.drawer, self.wishes.short_panel)
            self.settings.gpu_panel = not shown
            self._keep_settings()
        self.apply_parts()

    @property
    def gpu_shown(self) -> bool:
        """Whether the GPU panel is on screen."""
        return self.gpu_side is not None and self.gpu_side.display

    def action_toggle_panel(self) -> None:
        """Show the panel and give it the keyboard; hide it and give the keyboard back."""
        if self.panel.display:
            self._want_panel(False)
            self.focus_editor()
        else:
            self.show_panel(self.panel.page)
            self.panel.focus_list()

    def show_panel(self, page: str) -> None:
        """Show the panel on a page: "problems", "output", "queue" or "samples"."""
        self.panel.show_page(page)
        self._want_panel(True)

    def _want_panel(self, shown: bool) -> None:
        if self.size.height < SHORT:
            self.wishes = Wishes(self.wishes.drawer, shown)
        else:
            self.wishes = Wishes(self.wishes.drawer, self.wishes.short_panel)
            self.settings.panel = shown
            self._keep_settings()
        self.apply_parts()

    def action_maximise(self) -> None:
        """Only the editor, or everything again."""
        self.wishes = Wishes(self.wishes.drawer, self.wishes.short_panel, not self.wishes.maximised)
        self.apply_parts()
        self.focus_editor()

    def action_resize(self, part: str, by: int) -> None:
        """Make a part larger or smaller by so many cells."""
        from tuitune.workbench.settings import LIMITS

        low, high = LIMITS[part]
        setattr(self.settings, part, min(max(getattr(self.settings, part) + by, low), high))
        self._keep_settings()
        self.apply_parts()

    def action_wider_side_bar(self) -> None:
        """Four columns more for the explorer."""
        self.action_resize("side_bar_width", 4)

    def action_narrower_side_bar(self) -> None:
        """Four columns less for the explorer."""
        self.action_resize("side_bar_width", -4)

    def action_taller_panel(self) -> None:
        """Three rows more for the panel."""
        self.action_resize("panel_height", 3)

    def action_lower_panel(self) -> None:
        """Three rows less for the panel."""
        self.action_resize("panel_height", -3)

    # The keyboard

    def panes(self) -> list[tuple[Widget, Callable[[], object]]]:
        """What F6 goes through: each pane on screen with what gives it the keyboard."""
        found: list[tuple[Widget, Callable[[], object]]] = []
        if self.explorer.display:
            found.append((self.explorer, self.explorer.focus_list))
        for index, pane in enumerate(self.editor.layout_data.panes):
            view = self.editor.views.get(pane.active)
            if view is not None:
                found.append((view, lambda index=index: self.editor.focus_pane(index)))  # type: ignore[misc]
        if self.panel.display:
            found.append((self.panel, self.panel.focus_list))
        return found

    def action_next_pane(self) -> None:
        """The keyboard goes on to the next pane."""
        self._step_pane(1)

    def action_previous_pane(self) -> None:
        """The keyboard goes back to the pane before."""
        self._step_pane(-1)

    def _step_pane(self, by: int) -> None:
        panes = self.panes()
        if not panes:
            return
        inside = self.focused.ancestors_with_self if self.focused is not None else []
        current = next((index for index, (pane, _) in enumerate(panes) if pane in inside), -1 if by > 0 else 0)
        panes[(current + by) % len(panes)][1]()

    def focus_editor(self) -> None:
        """Give the keyboard to the active view, else to the explorer."""
        if self.editor.active is not None:
            self.editor.active.focus_content()
        elif self.explorer.display:
            self.explorer.focus_list()

    def action_focus_editor(self) -> None:
        """Escape in the panel."""
        self.focus_editor()

    # The rest

    def action_refresh_explorer(self) -> None:
        """Look at the folder again."""
        self.watch_folder()

    def action_choose_theme(self) -> None:
        """Choose the colours; the highlighted theme is shown at once."""
        from tuitune.workbench.parts.picker import ThemePicker

        self.push_screen(ThemePicker(), self._keep_theme)

    def _keep_theme(self, name: str | None) -> None:
        if name:
            self.settings.theme = name
            self._keep_settings()

    async def action_quit(self) -> None:
        """Leave; unsaved changes are asked about, runs go on."""
        self.run_worker(self._quit(), group="quit", exclusive=True, exit_on_error=False)

    async def _quit(self) -> None:
        for view in list(self.editor.views.values()):
            if view.close_guard() is not None:
                await self.editor.open(view.kind, view.path)
                if not await self.may_lose(view):
                    return
        await self.round_trip.settle()
        self.exit(0)

    def _keep_settings(self) -> None:
        if (told := save_settings(self.settings)) is not None:
            self.notify(told, severity="warning")

    # What becomes of a run

    def action_merge_run(self) -> None:
        """Merge the adapter of the run at hand into its base."""
        self._publish("merge")

    def action_export_run(self) -> None:
        """Export the model of the run at hand."""
        self._publish("export")

    def action_push_run(self) -> None:
        """Push the result of the run at hand to the Hub."""
        self._publish("push")

    def _publish(self, what: str) -> None:
        from tuitune.workbench import publish_control

        run = publish_control.run_of(self)
        if run is not None:
            self.run_worker(getattr(publish_control, what)(self, run), group="publish", exit_on_error=False)
