"""A list of lines in roles with a cursor: arrows, Home, End, Page keys, Enter and clicks. A move repaints two lines."""

from collections.abc import Sequence

from rich.style import Style
from textual.binding import Binding
from textual.events import Click
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip

from tuitune.workbench.parts.role_lines import Line
from tuitune.workbench.parts.role_scroll import RoleScroll


class RoleList(RoleScroll):
    """The cursor stays on its `keys` entry when lines come and go."""

    COMPONENT_CLASSES = {"role-list--cursor"}
    BINDINGS = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("home", "move_to(0)", show=False),
        Binding("end", "move_to(-1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("enter", "choose", show=False),
    ]
    DEFAULT_CSS = """
    RoleList > .role-list--cursor { background: $block-cursor-blurred-background; text-style: bold; }
    RoleList:focus > .role-list--cursor { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
    """

    class Chosen(Message):
        """Enter or a click on a line."""

        def __init__(self, key: object) -> None:
            super().__init__()
            self.key = key

    class Moved(Message):
        """The cursor is on another line."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.keys: Sequence[object] = ()
        self.cursor = 0

    @property
    def current(self) -> object | None:
        """The key of the line under the cursor, None when the list is empty."""
        return self.keys[self.cursor] if self.cursor < len(self.keys) else None

    def show_keyed(self, lines: Sequence[Line], keys: Sequence[object]) -> None:
        """Replace the lines; `keys` names each."""
        current, before = self.current, self.cursor
        self.keys = keys
        self.cursor = keys.index(current) if current in keys else min(self.cursor, max(0, len(keys) - 1))
        self.show(lines)
        if self.cursor != before:
            self._repaint(before, self.cursor)

    def move_to(self, index: int) -> None:
        """Put the cursor on a line and show it."""
        index = max(0, min(index, len(self.keys) - 1))
        if index != self.cursor:
            before, self.cursor = self.cursor, index
            self._repaint(before, index)
            self.scroll_to_region(Region(0, index, 1, 1), animate=False, force=True, immediate=True, x_axis=False)
            self.post_message(self.Moved())

    def action_move(self, by: int) -> None:
        self.move_to(self.cursor + by)

    def action_move_to(self, index: int) -> None:
        self.move_to(index if index >= 0 else len(self.keys) - 1)

    def action_page(self, by: int) -> None:
        self.move_to(self.cursor + by * max(1, self.size.height - 1))

    def action_choose(self) -> None:
        if self.current is not None:
            self.post_message(self.Chosen(self.current))

    def on_click(self, event: Click) -> None:
        index = int(event.y + self.scroll_offset.y)
        if index < len(self.keys):
            self.move_to(index)
            self.action_choose()

    def render_line(self, y: int) -> Strip:
        strip = super().render_line(y)
        if self.scroll_offset.y + y == self.cursor and self.keys:
            cursor = self.get_component_rich_style("role-list--cursor")
            return strip.apply_style(Style(bgcolor=cursor.bgcolor, bold=True))
        return strip

    def _repaint(self, *indexes: int) -> None:
        top = self.scroll_offset.y
        self.refresh(*(Region(0, index - top, max(1, self.size.width), 1) for index in indexes if 0 <= index - top < self.size.height))
