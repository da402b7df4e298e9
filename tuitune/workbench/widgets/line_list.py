"""A list of one-line items drawn by line: moving the cursor repaints two lines, new content only the lines that differ.

Textual's OptionList repaints itself whole for a cursor move, which over a slow line is the difference between 10 KB and 200 bytes.
"""

from collections.abc import Collection, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual


class LineList(ScrollView, can_focus=True):
    """Shows the lines given to `show`; any sequence will do, only what is on screen is looked at."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "edge(-1)", "First", show=False),
        Binding("end", "edge(1)", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"line-list--cursor", "line-list--cursor-blurred"}
    DEFAULT_CSS = """
    LineList { height: 1fr; scrollbar-size: 1 1; overflow-x: hidden; }
    LineList > .line-list--cursor { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
    LineList > .line-list--cursor-blurred { background: $block-cursor-blurred-background; color: $block-cursor-blurred-foreground; }
    """

    class _About(Message):
        def __init__(self, sender: "LineList", index: int) -> None:
            super().__init__()
            self.sender = sender
            self.index = index

        @property
        def control(self) -> "LineList":
            """The list it came from."""
            return self.sender

    class Chosen(_About):
        """Enter or a click on a line."""

    class Moved(_About):
        """The cursor stands on another line, by the user's hand."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.lines: Sequence[Content] = ()
        self._disabled: Collection[int] = ()
        self._cursor = -1
        self._width = 0

    @property
    def cursor(self) -> int:
        """The index of the line under the cursor, -1 when the list is empty."""
        return self._cursor

    @cursor.setter
    def cursor(self, index: int) -> None:
        self._place(max(-1, min(index, len(self.lines) - 1)))

    def show(self, lines: Sequence[Content], disabled: Collection[int] = ()) -> None:
        """Replace the lines. Those in `disabled` are passed over by the cursor. The cursor stays at its index as far as there is one."""
        old, self.lines, self._disabled = self.lines, lines, disabled
        before = self._cursor
        self._cursor = min(max(0, before), len(lines) - 1)
        if lines and self._cursor in disabled:
            self._cursor = self._enabled(self._cursor, 1)
        if len(old) != len(lines):
            self.virtual_size = Size(self.size.width, len(lines))
            if self.styles.height is not None and self.styles.height.is_auto:
                self.refresh(layout=True)
        top = self.scroll_offset.y
        for y in range(self.size.height):
            index = top + y
            now = lines[index] if index < len(lines) else None
            then = old[index] if index < len(old) else None
            if now != then or (index in (before, self._cursor) and before != self._cursor):
                self._repaint(index)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self.lines)

    def render_line(self, y: int) -> Strip:
        index, width = self.scroll_offset.y + y, self.scrollable_content_region.width
        style = self.visual_style
        if index >= len(self.lines):
            return Strip.blank(width, style.rich_style)
        content = self.lines[index]
        if index == self._cursor and index not in self._disabled:
            name = "line-list--cursor" if self.has_focus or not self.can_focus else "line-list--cursor-blurred"
            style = style + self.get_visual_style(name)
            content = Content(content.plain)  # colours chosen for the plain background need not be readable on the cursor's
        strips = Visual.to_strips(self, content.truncate(width, ellipsis=True), width, 1, style, apply_selection=False)
        strip = strips[0] if strips else Strip([])
        return strip.extend_cell_length(width, style.rich_style).adjust_cell_length(width, style.rich_style)

    def on_resize(self, event: events.Resize) -> None:
        """Keep the cursor in sight and the scrollable width at what is visible."""
        self.virtual_size = Size(event.size.width, len(self.lines))
        self._reveal()

    def on_focus(self) -> None:
        """The cursor looks different while the keyboard is here."""
        self._repaint(self._cursor)

    def on_blur(self) -> None:
        """See on_focus."""
        self._repaint(self._cursor)

    def on_click(self, event: events.Click) -> None:
        """A click chooses."""
        index = self.scroll_offset.y + event.y - self.gutter.top
        if 0 <= index < len(self.lines) and index not in self._disabled:
            self._place(index)
            self.post_message(self.Chosen(self, index))

    def action_move(self, by: int) -> None:
        """One line up or down, past disabled ones."""
        self._go(self._enabled(self._cursor + by, by))

    def action_page(self, by: int) -> None:
        """One screen up or down."""
        to = self._cursor + by * max(1, self.size.height - 1)
        self._go(self._enabled(max(0, min(to, len(self.lines) - 1)), -by))

    def action_edge(self, by: int) -> None:
        """The first or the last line."""
        self._go(self._enabled(0 if by < 0 else len(self.lines) - 1, -by))

    def action_choose(self) -> None:
        """Enter."""
        if self._cursor >= 0 and self._cursor not in self._disabled:
            self.post_message(self.Chosen(self, self._cursor))

    def _enabled(self, index: int, by: int) -> int:
        while 0 <= index < len(self.lines) and index in self._disabled:
            index += by
        return index

    def _go(self, index: int) -> None:
        if 0 <= index < len(self.lines) and index != self._cursor:
            self._place(index)
            self.post_message(self.Moved(self, index))

    def _place(self, index: int) -> None:
        if index == self._cursor:
            self._reveal()
            return
        before, self._cursor = self._cursor, index
        self._repaint(before)
        self._repaint(index)
        self._reveal()

    def _reveal(self) -> None:
        if self._cursor >= 0 and self.size.height:
            self.scroll_to_region(Region(0, self._cursor, 1, 1), animate=False, force=True, immediate=True)

    def _repaint(self, index: int) -> None:
        y = index - self.scroll_offset.y
        if 0 <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))
