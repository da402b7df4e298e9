"""A long page of lines in roles that scrolls by keys and, when it is at its end, follows what is appended (a log tail)."""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tuitune.workbench.parts.role_lines import ROLE_CLASSES, Line, Looks, role_css


class RoleScroll(ScrollView, can_focus=True):
    """Read-only; lines longer than the page are cut, left and right scroll sideways. `follow`: start at the end and stay there."""

    COMPONENT_CLASSES: ClassVar[set[str]] = ROLE_CLASSES
    DEFAULT_CSS = "RoleScroll { scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; }\n" + role_css("RoleScroll")

    def __init__(self, *, follow: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.follow = follow
        self.lines: Sequence[Line] = ()
        self._stays = follow  # whether new lines scroll the page
        self._looks = Looks(self)

    def notify_style_update(self) -> None:
        """Another theme or class: the roles look different."""
        self._looks.clear()
        super().notify_style_update()

    @property
    def at_end(self) -> bool:
        """Whether the last line is on screen."""
        return self.scroll_offset.y >= self.max_scroll_y - 0.5

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._stays = self.at_end  # scrolled away from the end: what is read now must not move

    def on_resize(self) -> None:
        if self.follow and self._stays:
            self.scroll_end(animate=False, force=True, immediate=True, x_axis=False)

    def show(self, lines: Sequence[Line], *, moved_up: int = 0) -> None:
        """Replace the lines. `moved_up`: so many were dropped at the top, the ones on screen stay where they are."""
        stays, old = self._stays, self.lines
        self.lines = lines
        size = Size(max((sum(len(text) for text, _ in line) for line in lines), default=0), len(lines))
        if size != self.virtual_size:
            self.virtual_size = size
        if self.follow and stays:
            self.scroll_end(animate=False, force=True, immediate=True, x_axis=False)
        elif moved_up:
            self.scroll_to(y=max(0, self.scroll_offset.y - moved_up), animate=False, force=True)
        top = self.scroll_offset.y
        for y in range(self.size.height):
            before = old[top + y] if top + y < len(old) else None
            after = lines[top + y] if top + y < len(lines) else None
            if before != after:
                self.refresh(Region(0, y, max(1, self.size.width), 1))

    def text(self) -> str:
        """All lines without their roles."""
        return "\n".join("".join(text for text, _ in line) for line in self.lines)

    def render_line(self, y: int) -> Strip:
        left, top = self.scroll_offset
        width, index = self.size.width, top + y
        if index >= len(self.lines):
            return Strip.blank(width, self._looks[""])
        strip = Strip([Segment(text, self._looks[role]) for text, role in self.lines[index]])
        return strip.crop(left, left + width).adjust_cell_length(width, self._looks[""])
