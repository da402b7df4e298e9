"""A pane of lines in roles that scrolls; nothing in it can be chosen.

It keeps its own place instead of being a ScrollView: there, other lines in another number lay out the whole screen again, which is what a
row after the other would cost.
"""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tuitune.workbench.parts.role_lines import ROLE_CLASSES, Line, Looks, role_css


class LinePane(Widget, can_focus=True):
    """Shows the lines given to `show`; only those that differ are painted again. Lines are broken by whoever makes them, to one cell less
    than the pane is wide: the last one shows where in the lines it stands."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_lines(-1)", show=False),
        Binding("down", "scroll_lines(1)", show=False),
        Binding("pageup", "scroll_pages(-1)", show=False),
        Binding("pagedown", "scroll_pages(1)", show=False),
        Binding("home", "scroll_lines(-1000000000)", show=False),
        Binding("end", "scroll_lines(1000000000)", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = ROLE_CLASSES
    DEFAULT_CSS = "LinePane { height: 1fr; width: 1fr; }\n" + role_css("LinePane")

    class Rewidened(Message):
        """The pane has another width: lines that were broken for the one before do not fit it."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: Sequence[Line] = ()
        self.top = 0
        self._width = 0
        self._looks = Looks(self)

    def notify_style_update(self) -> None:
        """Another theme or class: the roles look different."""
        self._looks.clear()
        super().notify_style_update()

    def show(self, lines: Sequence[Line]) -> None:
        """Replace the lines, from their top."""
        before = self._drawn()
        self.lines, self.top = lines, 0
        self._repaint(before)

    def text(self) -> str:
        """The lines without their roles."""
        return "\n".join("".join(text for text, _ in line) for line in self.lines)

    def action_scroll_lines(self, by: int) -> None:
        """So many lines up or down."""
        before = self._drawn()
        self.top = max(0, min(self.top + by, len(self.lines) - self.size.height))
        self._repaint(before)

    def action_scroll_pages(self, by: int) -> None:
        """A page up or down."""
        self.action_scroll_lines(by * max(1, self.size.height - 1))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_scroll_lines(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_scroll_lines(-3)

    def on_resize(self, event: events.Resize) -> None:
        if event.size.width != self._width:
            self._width = event.size.width
            self.post_message(self.Rewidened())

    def on_focus(self) -> None:
        """The mark at the edge says that the keyboard is here."""
        self.refresh()

    def on_blur(self) -> None:
        """See on_focus."""
        self.refresh()

    def _drawn(self) -> list[tuple[Line, str]]:
        """What is on each line of the pane: the line, and the mark at its edge."""
        height, count = self.size.height, len(self.lines)
        first, last = (self.top * height // count, (self.top + height - 1) * height // count) if count > height else (0, -1)
        shown = self.lines[self.top : self.top + height]
        return [(shown[y] if y < len(shown) else (), "▐" if first <= y <= last else " ") for y in range(height)]

    def _repaint(self, before: list[tuple[Line, str]]) -> None:
        now = self._drawn()
        changed = [y for y, drawn in enumerate(now) if y >= len(before) or drawn != before[y]]
        if changed:
            self.refresh(*(Region(0, y, max(1, self.size.width), 1) for y in changed))

    def render_line(self, y: int) -> Strip:
        drawn = self._drawn()
        if y >= len(drawn) or self.size.width < 2:
            return Strip.blank(self.size.width, self._looks[""])
        line, mark = drawn[y]
        strip = Strip([Segment(text, self._looks[look]) for text, look in line]).adjust_cell_length(self.size.width - 1, self._looks[""])
        return Strip([*strip, Segment(mark, self._looks["one" if self.has_focus else "rest"])])
