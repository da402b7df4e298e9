"""The tokens of one row, drawn by line, with a cursor that stands on a token."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tuitune.workbench.parts.role_lines import ROLE_CLASSES, Line, Looks, role_css
from tuitune.workbench.views.tokens.flow import Flow, Place, with_cursor

EMPTY = Flow([], [])


class TokenScroll(ScrollView, can_focus=True):
    """Left and right go from token to token, up and down from line to line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", show=False),
        Binding("right", "step(1)", show=False),
        Binding("up", "line(-1)", show=False),
        Binding("down", "line(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "edge(-1)", show=False),
        Binding("end", "edge(1)", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = ROLE_CLASSES
    DEFAULT_CSS = "TokenScroll { scrollbar-size: 0 1; }\n" + role_css("TokenScroll")

    class Moved(Message):
        """The cursor stands on another token."""

    class Resized(Message):
        """Lines of another width are wanted."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.flow = EMPTY
        self.cursor = 0
        self._looks = Looks(self)

    def notify_style_update(self) -> None:
        """Another theme or class: the roles look different."""
        self._looks.clear()
        super().notify_style_update()

    def on_resize(self) -> None:
        """What is drawn was broken into lines for another width."""
        self.post_message(self.Resized())

    def show(self, flow: Flow, cursor: int = 0) -> None:
        """Other tokens, with the cursor on one of them."""
        self.flow, self.cursor = flow, max(0, min(cursor, len(flow.places) - 1))
        self.virtual_size = Size(self.size.width, len(flow.lines))
        self.refresh()
        self._reveal()

    @property
    def lines(self) -> Sequence[Line]:
        """What is drawn, without the cursor."""
        return self.flow.lines

    def render_line(self, y: int) -> Strip:
        width, index = self.scrollable_content_region.width, self.scroll_offset.y + y
        if index >= len(self.lines):
            return Strip.blank(width, self._looks[""])
        line = self.lines[index]
        if self.flow.places:
            x, count = self._cells(index)
            line = with_cursor(line, x, count) if count else line
        return Strip([Segment(text, self._looks[look]) for text, look in line]).adjust_cell_length(width, self._looks[""])

    def _cells(self, y: int) -> tuple[int, int]:
        """(column, cells) of the token under the cursor in a line."""
        place = self.flow.places[self.cursor]
        following = self.flow.places[self.cursor + 1] if self.cursor + 1 < len(self.flow.places) else Place(len(self.lines), 0)
        if not place.y <= y <= following.y:
            return 0, 0
        start = place.x if y == place.y else 0
        end = following.x if y == following.y else sum(cell_len(text) for text, _ in self.lines[y])
        return start, max(0, end - start)

    def move_to(self, token: int) -> None:
        """Put the cursor on a token."""
        if not self.flow.places or token == self.cursor:
            return
        before, self.cursor = self.cursor, max(0, min(token, len(self.flow.places) - 1))
        for at in (before, self.cursor):
            last = self.flow.places[at + 1].y if at + 1 < len(self.flow.places) else len(self.lines) - 1
            self._repaint(self.flow.places[at].y, last)
        self._reveal()
        self.post_message(self.Moved())

    def _repaint(self, first: int, last: int) -> None:
        top = self.scroll_offset.y
        self.refresh(Region(0, first - top, max(1, self.size.width), last - first + 1))

    def _reveal(self) -> None:
        if self.flow.places and self.size.height:
            self.scroll_to_region(Region(0, self.flow.places[self.cursor].y, 1, 1), animate=False, force=True, immediate=True)

    def action_step(self, by: int) -> None:
        """The token before or after."""
        self.move_to(self.cursor + by)

    def action_line(self, by: int) -> None:
        """The token above or below."""
        if self.flow.places:
            place = self.flow.places[self.cursor]
            self.move_to(max(0, self.flow.token_at(max(0, place.y + by), place.x)))

    def action_page(self, by: int) -> None:
        """A page up or down."""
        self.action_line(by * max(1, self.size.height - 1))

    def action_edge(self, by: int) -> None:
        """The first or the last token."""
        self.move_to(0 if by < 0 else len(self.flow.places) - 1)
