"""The one quick-open box over the workbench, with VS Code's prefixes, and the box that chooses a theme.

What is offered and in which order is decided in quick_open.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input

from tuitune.workbench import quick_open, theme
from tuitune.workbench.parts.question import Question
from tuitune.workbench.quick_open import Entry
from tuitune.workbench.widgets.line_list import LineList

if TYPE_CHECKING:
    from tuitune.workbench.app import Workbench

MOVES: list[BindingType] = [
    Binding("up", "move(-1)", show=False, priority=True),
    Binding("down", "move(1)", show=False, priority=True),
    Binding("pageup", "move(-10)", show=False, priority=True),
    Binding("pagedown", "move(10)", show=False, priority=True),
    Binding("escape", "leave", show=False, priority=True),
]


class Box(Question[str | None]):
    """A text field above a list; subclasses say what is listed (`found`, for what is typed) and what Enter does (`choose`)."""

    found: Callable[[str], list[Entry]]
    choose: Callable[[Entry], None]
    BINDINGS = MOVES
    placeholder = ""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.entries: list[Entry] = []
        self._input = Input(text, placeholder=self.placeholder, select_on_focus=False)
        self._input.cursor_blink = False
        self._list = LineList()

    def compose(self) -> ComposeResult:
        with Vertical(id="picker"):
            yield self._input
            yield self._list

    def on_mount(self) -> None:
        self._list.can_focus = False
        self._input.focus()
        self._input.cursor_position = len(self._input.value)
        self.renew()

    def highlighted(self, entry: Entry) -> None:
        """The cursor moved to an entry."""

    def renew(self) -> None:
        """List what fits the text."""
        self.entries = self.found(self._input.value)
        room = max(20, self.size.width * 96 // 100 - 6 if self.size.width < 90 else 80)
        if self.entries:
            self._list.show([entry_line(entry, room) for entry in self.entries])
        else:
            self._list.show([Content.styled("  Nothing by that name.", "$text-muted")], (0,))
        self._list.cursor = 0

    def on_input_changed(self) -> None:
        self.renew()

    def on_input_submitted(self) -> None:
        if 0 <= self._list.cursor < len(self.entries):
            self.choose(self.entries[self._list.cursor])

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        if event.index < len(self.entries):
            self.choose(self.entries[event.index])

    def action_move(self, by: int) -> None:
        """Move the cursor of the list; the keyboard stays in the text field."""
        if self.entries:
            last = len(self.entries) - 1
            to = self._list.cursor + by
            self._list.cursor = (to % (last + 1)) if abs(by) == 1 else min(max(to, 0), last)
            self.highlighted(self.entries[self._list.cursor])

    def action_leave(self) -> None:
        """Escape: nothing happens."""
        self.dismiss(None)


class Picker(Box):
    """Files and runs, `>` commands, `@` keys of the recipe, `#` rows of the data file, `:` line, `?` help."""

    placeholder = "Recipes, data, models and runs by name; ? for more"
    app: Workbench  # type: ignore[assignment]

    def found(self, text: str) -> list[Entry]:
        prefix, query = quick_open.split_prefix(text)
        view = self.app.editor.active
        if prefix == "?":
            return quick_open.prefixes()
        if prefix == ":":
            return quick_open.line(query)
        if prefix == "#":
            return quick_open.rows(query, view.kind if view else "")
        if prefix == "@":
            return quick_open.rank(quick_open.symbols(view.symbols() if view else []), query) or [
                Entry("", "No keys here", "open a recipe for its keys")
            ]
        if prefix == ">":
            return quick_open.rank(quick_open.commands(view.kind if view else ""), query, self.app.recent_commands)
        recent = [opened.path for key in self.app.editor.layout_data.recent[1:] if (opened := self.app.editor.views.get(key))]
        return quick_open.rank(quick_open.files_and_runs(self.app.seen), query, recent)

    def choose(self, entry: Entry) -> None:
        if entry.kind == "prefix":
            self._input.value = str(entry.target)
            self._input.cursor_position = len(self._input.value)
            return
        if not entry.kind:
            return
        self.dismiss(None)
        self.app.call_later(self._do, entry)

    async def _do(self, entry: Entry) -> None:
        if entry.kind == "command":
            await self.app.action_command(str(entry.target))
        elif entry.kind == "rows":
            if self.app.editor.active is not None:
                self.app.editor.active.find(str(entry.target))
                self.app.editor.active.focus_content()
        elif isinstance(entry.target, tuple):
            if self.app.editor.active is not None:
                self.app.editor.active.go_to(*entry.target)
                self.app.editor.active.focus_content()
        elif isinstance(entry.target, Path):
            await self.app.open_view(entry.kind, entry.target)


class ThemePicker(Box):
    """The colour themes; the highlighted one is shown at once, Escape brings the old one back. Returns the name."""

    placeholder = "Colour theme"

    def on_mount(self) -> None:
        self._before = self.app.theme
        super().on_mount()

    def found(self, text: str) -> list[Entry]:
        entries = [Entry("theme", theme.TITLES[name], name, target=name) for name in theme.NAMES]
        return quick_open.rank(entries, text, [self._before])

    def highlighted(self, entry: Entry) -> None:
        self.app.theme = str(entry.target)

    def choose(self, entry: Entry) -> None:
        self.app.theme = str(entry.target)
        self.dismiss(str(entry.target))

    def action_leave(self) -> None:
        """Escape: as before."""
        self.app.theme = self._before
        self.dismiss(None)


def entry_line(entry: Entry, room: int) -> Content:
    """An entry in `room` cells: sign, title, detail dimmed, hint at the right edge."""
    head = Content.assemble((f" {entry.sign} ", "$primary"), entry.title)
    hint = Content.styled(f" {entry.hint}", "$primary") if entry.hint else Content("")
    left = room - head.cell_length - hint.cell_length - 2
    detail = (
        Content.styled(f"  {entry.detail}", "$text-muted").truncate(max(0, left), ellipsis=True)
        if entry.detail and left > 6
        else Content("")
    )
    blank = max(1, room - head.cell_length - detail.cell_length - hint.cell_length)
    return Content.assemble(head, detail, " " * blank, hint)
