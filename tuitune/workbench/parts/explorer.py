"""The side bar: the folder's recipes, data, models and runs as one list that folds by section.

What the lines say is made in explorer_rows.py from what the watching thread saw.
"""

from pathlib import Path

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from tuitune.text import printable
from tuitune.workbench.parts.explorer_rows import Row, explorer_rows
from tuitune.workbench.watch import Seen
from tuitune.workbench.widgets.line_list import LineList

SIGN_STYLES = {"▶": "$success", "✓": "$success", "✗": "$error", "?": "$warning", "●": "$warning"}


class Explorer(Vertical):
    """Enter opens a file or run, and folds or unfolds a section."""

    class Chosen(Message):
        """Please open this."""

        def __init__(self, kind: str, path: Path) -> None:
            super().__init__()
            self.kind = kind
            self.path = path

    def __init__(self, root: Path) -> None:
        super().__init__(id="side-bar")
        self.rows: list[Row] = []
        self._seen: Seen | None = None
        self._folded: set[str] = set()
        self._dirty: frozenset[Path] = frozenset()
        self._title = Static(
            Content.assemble(("EXPLORER ", "$text-muted"), (printable(root.name or str(root)), "bold $foreground")), classes="side-title"
        )
        self._list = LineList()

    def compose(self) -> ComposeResult:
        yield self._title
        yield self._list

    @property
    def cursor(self) -> int:
        """The index of the row under the cursor."""
        return self._list.cursor

    def focus_list(self) -> None:
        """Give the keyboard to the list."""
        self._list.focus()

    def show(self, seen: Seen) -> None:
        """Draw what is there now; the cursor stays on its file."""
        self._seen = seen
        self._draw()

    def show_dirty(self, paths: frozenset[Path]) -> None:
        """Mark files with unsaved changes."""
        if paths != self._dirty:
            self._dirty = paths
            self._draw()

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self._draw)  # once the list has its new width

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        event.stop()
        row = self.rows[event.index]
        if row.kind == "section":
            self._folded ^= {row.section}
            self._draw()
        elif row.path is not None:
            self.post_message(self.Chosen(row.kind, row.path))

    def _draw(self) -> None:
        if self._seen is None:
            return
        before = self.rows[self._list.cursor] if 0 <= self._list.cursor < len(self.rows) else None
        self.rows = explorer_rows(self._seen, self._folded, self._dirty)
        if len(self.rows) > self._list.size.height >= len(self._list.lines):
            self.call_after_refresh(self._draw)  # a scrollbar is about to take a column
        room = max(8, self._list.scrollable_content_region.width - 1)
        self._list.show([line(row, room) for row in self.rows], [index for index, row in enumerate(self.rows) if row.kind == "empty"])
        if before is not None:
            same = (
                index
                for index, row in enumerate(self.rows)
                if (row.kind, row.section, row.path) == (before.kind, before.section, before.path)
            )
            self._list.cursor = next(same, min(self._list.cursor, len(self.rows) - 1))


def line(row: Row, room: int) -> Content:
    """A row as drawn in `room` cells: the detail keeps to the right as long as the name has room."""
    if row.kind == "section":
        count = f" {row.count}" if row.count else ""
        return Content.assemble((f"{row.sign} ", "$text-muted"), (row.label, "bold $foreground"), (count, "$text-muted"))
    if row.kind == "empty":
        return Content.styled(f"    {row.label}", "$text-disabled")
    sign = (f"  {row.sign} ", SIGN_STYLES.get(row.sign, "$text-muted"))
    name = Content(row.label)
    left = room - 4 - name.cell_length
    if left < 2 or not row.detail:
        return Content.assemble(sign, name.truncate(room - 4, ellipsis=True))
    detail = Content.styled(row.detail, "$text-muted")
    if detail.cell_length > left - 1:
        return Content.assemble(sign, name)
    return Content.assemble(sign, name, " " * (left - detail.cell_length), detail)
