"""The line of editor tabs and the breadcrumb line under it; both draw one line and hold no state of their own."""

from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

CLOSE, DIRTY = "×", "●"


@dataclass(frozen=True)
class Tab:
    """One tab as drawn; `title` is printable."""

    key: str
    title: str
    dirty: bool = False


class TabBar(Widget):
    """Tabs of one pane. The active tab carries a mark, its own ground and ×; ● says that there are unsaved changes."""

    class Activated(Message):
        """A tab was clicked."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class CloseRequested(Message):
        """The × of a tab was clicked."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self) -> None:
        super().__init__()
        self.tabs: tuple[Tab, ...] = ()
        self.active = ""
        self.front = True  # whether this pane is the one new tabs go to
        self._spans: list[tuple[int, int, str]] = []  # first column, one past the last, key

    def show(self, tabs: tuple[Tab, ...], active: str, front: bool) -> None:
        """Draw these tabs."""
        if (tabs, active, front) != (self.tabs, self.active, self.front):
            self.tabs, self.active, self.front = tabs, active, front
            self.refresh()

    def render(self) -> Content:
        pieces = [self._draw(tab) for tab in self.tabs]
        first, last = visible_tabs([piece.cell_length for piece in pieces], self._active_index(), self.size.width)
        before = Content.styled("‹ ", "$text-muted") if first else Content(" " if not pieces else "")
        after = Content.styled(" ›", "$text-muted") if last < len(pieces) else Content("")
        self._spans, column = [], before.cell_length
        for tab, piece in zip(self.tabs[first:last], pieces[first:last]):
            self._spans.append((column, column + piece.cell_length, tab.key))
            column += piece.cell_length
        return Content("").join([before, *pieces[first:last], after])

    def on_click(self, event: events.Click) -> None:
        for start, end, key in self._spans:
            if start <= event.x < end:
                close = event.button == 2 or (key == self.active and event.x >= end - 2)
                self.post_message(self.CloseRequested(key) if close else self.Activated(key))
                return

    def _active_index(self) -> int:
        return next((index for index, tab in enumerate(self.tabs) if tab.key == self.active), 0)

    def _draw(self, tab: Tab) -> Content:
        title = tab.title if len(tab.title) <= 32 else tab.title[:15] + "…" + tab.title[-16:]
        if tab.key == self.active:
            ground = "$foreground on $background"
            mark = ("▎", "$primary on $background" if self.front else "$text-muted on $background")
            dirty = (f" {DIRTY}", "$warning on $background") if tab.dirty else ("", ground)
            name = (title, f"bold {ground}" if self.front else ground)
            return Content.assemble(mark, name, dirty, (f" {CLOSE} ", "$text-muted on $background"))
        dirty = (f" {DIRTY} ", "$warning") if tab.dirty else ("   ", "$text-muted")
        return Content.assemble((" ", "$text-muted"), (title, "$text-muted"), dirty)


def visible_tabs(widths: list[int], active: int, room: int) -> tuple[int, int]:
    """Which tabs to draw, first and one past the last, so that the active one is there and as many others as fit."""
    if sum(widths) <= room:
        return 0, len(widths)
    room = max(0, room - 4)  # for ‹ and ›
    first, last = active, active + 1
    used = widths[active] if widths else 0
    while True:
        if last < len(widths) and used + widths[last] <= room:
            used += widths[last]
            last += 1
        elif first > 0 and used + widths[first - 1] <= room:
            first -= 1
            used += widths[first]
        else:
            return first, last


class Breadcrumbs(Widget):
    """folder › file › section › key"""

    def __init__(self) -> None:
        super().__init__()
        self.parts: tuple[str, ...] = ()

    def show(self, parts: tuple[str, ...]) -> None:
        """Draw the way to where the cursor is; each part printable."""
        if parts != self.parts:
            self.parts = parts
            self.refresh()

    def render(self) -> Content:
        pieces: list[tuple[str, str]] = [(" ", "$text-muted")]
        for index, part in enumerate(self.parts):
            last = index == len(self.parts) - 1
            if index:
                pieces.append((" › ", "$text-disabled"))
            pieces.append((part, "$foreground" if last and index > 0 else "$text-muted"))
        return Content.assemble(*pieces).truncate(self.size.width, ellipsis=True)
