"""The list of rows: a LineList that draws its rows a tenth as dear, because a held page key draws all of them thirty times a second."""

from typing import ClassVar

from rich.segment import Segment
from textual.strip import Strip

from tuitune.workbench.parts.role_lines import Looks
from tuitune.workbench.views.dataset.table import Lines
from tuitune.workbench.widgets.line_list import LineList


class RowList(LineList):
    """Shows Lines."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"role--rest", "role--error"}
    DEFAULT_CSS = """
    RowList > .role--rest { color: $text-disabled; }
    RowList > .role--error { color: $error; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._looks = Looks(self)

    def notify_style_update(self) -> None:
        """Another theme or class: the roles look different."""
        self._looks.clear()
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        index = self.scroll_offset.y + y
        if not isinstance(self.lines, Lines) or index >= len(self.lines) or index == self.cursor:
            return super().render_line(y)
        strip = Strip([Segment(text, self._looks[role]) for text, role in self.lines.line(index)])
        return strip.adjust_cell_length(self.scrollable_content_region.width, self._looks[""])
