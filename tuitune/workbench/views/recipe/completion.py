"""The list of completions above the text: which are offered, which is chosen, what is shown of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tuitune.text import printable
from tuitune.workbench.widgets.line_list import LineList

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tuitune.recipe.complete import Completion

MAX_ROWS = 8
DOC_ROWS = 3
WIDTH = 58


class CompletionPopup(Vertical):
    """Never has the keyboard: the editor passes keys on while it is open."""

    DEFAULT_CSS = """
    CompletionPopup { layer: popup; display: none; width: 58; height: auto; background: $panel; border: none; }
    CompletionPopup LineList { height: auto; max-height: 8; background: $panel; }
    CompletionPopup Static { height: auto; max-height: 3; padding: 0 1; background: $surface; color: $text-muted; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.items: list[Completion] = []
        self.asked = False
        """Opened by the user, not by itself while typing: then Enter always takes."""
        self.touched = False
        self._list = LineList()
        self._list.can_focus = False
        self._doc = Static(markup=False)

    def compose(self) -> ComposeResult:
        yield self._list
        yield self._doc

    @property
    def open(self) -> bool:
        """Whether it is on screen."""
        return bool(self.display)

    @property
    def chosen(self) -> Completion | None:
        """The completion under the cursor."""
        return self.items[self._list.cursor] if 0 <= self._list.cursor < len(self.items) else None

    def offer(self, items: list[Completion], x: int, y: int, *, asked: bool) -> None:
        """Show `items` with the top left corner at (x, y) of the view."""
        self.items, self.asked, self.touched = items, asked, False
        self._list.show([_row(item) for item in items])
        self._list.cursor = 0
        self._show_doc()
        self.styles.offset = (x, y)
        self.display = True

    def close(self) -> None:
        """Take it off the screen."""
        self.display = False

    def move(self, by: int) -> None:
        """Up or down, round the end."""
        self.touched = True
        self._list.cursor = (self._list.cursor + by) % len(self.items)
        self._show_doc()

    def rows(self) -> int:
        """How high it is at most, for placing it above or below the cursor."""
        return min(len(self.items), MAX_ROWS) + DOC_ROWS

    def _show_doc(self) -> None:
        item = self.chosen
        self._doc.update(printable(" ".join((item.doc or item.detail).split()), limit=(WIDTH - 2) * DOC_ROWS - 30) if item else "")


def _row(item: Completion) -> Content:
    mark = {"section": "▸", "key": "·", "value": "="}[item.kind]
    return Content.assemble((f" {mark} ", "$text-muted"), printable(item.text), (f"  {printable(item.detail)}", "$text-muted"))
