"""The titles of the panel's pages in one line; a click brings a page to the front."""

from collections.abc import Sequence

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget


class PanelTitles(Widget):
    """PROBLEMS 2  OUTPUT  QUEUE  SAMPLES"""

    class Clicked(Message):
        """Please show this page."""

        def __init__(self, page: str) -> None:
            super().__init__()
            self.page = page

    def __init__(self, pages: Sequence[str]) -> None:
        super().__init__()
        self.pages = pages
        self.page, self.hints, self.counts = "", "", {}  # type: str, str, dict[str, int]
        self._spans: list[tuple[int, int, str]] = []

    def show(self, page: str, counts: dict[str, int], hints: str = "") -> None:
        """Draw the titles with `page` marked, and the keys that help where there is room."""
        if (page, counts, hints) != (self.page, self.counts, self.hints):
            self.page, self.counts, self.hints = page, counts, hints
            self.refresh()

    def render(self) -> Content:
        pieces: list[Content] = []
        self._spans, column = [], 0
        for page in self.pages:
            count = f" {self.counts[page]}" if self.counts.get(page) else ""
            style = "bold underline $foreground" if page == self.page else "$text-muted"
            piece = Content.assemble("  ", (page.upper(), style), (count, "bold $primary"))
            self._spans.append((column, column + piece.cell_length, page))
            column += piece.cell_length
            pieces.append(piece)
        room = self.size.width - column - 2
        if self.hints and len(self.hints) < room:
            pieces.append(Content.styled(self.hints.rjust(room), "$text-muted"))
        return Content("").join(pieces)

    def on_click(self, event: events.Click) -> None:
        for start, end, page in self._spans:
            if start <= event.x < end:
                self.post_message(self.Clicked(page))
