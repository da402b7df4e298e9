"""A pane of lines in roles that scrolls; nothing in it can be chosen."""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tuitune.workbench.parts.role_lines import ROLES, Line, Looks


class LinePane(ScrollView, can_focus=True):
    """Shows the lines given to `show`; only those that differ are painted again. Lines are broken by whoever makes them."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"role--{role}" for role in ROLES}
    DEFAULT_CSS = """
    LinePane { height: 1fr; scrollbar-size: 0 1; overflow-x: hidden; }
    LinePane > .role--title { text-style: bold; }
    LinePane > .role--dim { color: $text-muted; }
    LinePane > .role--warn { color: $warning; text-style: bold; }
    LinePane > .role--error { color: $error; text-style: bold; }
    LinePane > .role--one { color: $primary; }
    LinePane > .role--two { color: $accent; }
    LinePane > .role--three { color: $success; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: Sequence[Line] = ()
        self._looks = Looks(self)

    def notify_style_update(self) -> None:
        """Another theme or class: the roles look different."""
        self._looks.clear()
        super().notify_style_update()

    def show(self, lines: Sequence[Line], *, keep: bool = False) -> None:
        """Replace the lines, from their top unless `keep`."""
        old, self.lines = self.lines, lines
        self.virtual_size = Size(self.size.width, len(lines))
        if not keep and self.scroll_offset.y:
            self.scroll_to(0, 0, animate=False, force=True, immediate=True)
            self.refresh()
            return
        top = self.scroll_offset.y
        for y in range(self.size.height):
            index = top + y
            if (old[index] if index < len(old) else None) != (lines[index] if index < len(lines) else None):
                self.refresh(Region(0, y, max(1, self.size.width), 1))

    def text(self) -> str:
        """The lines without their roles."""
        return "\n".join("".join(text for text, _ in line) for line in self.lines)

    def render_line(self, y: int) -> Strip:
        width, index = self.scrollable_content_region.width, self.scroll_offset.y + y
        if index >= len(self.lines):
            return Strip.blank(width, self._looks[""])
        return Strip([Segment(text, self._looks[look]) for text, look in self.lines[index]]).adjust_cell_length(width, self._looks[""])
