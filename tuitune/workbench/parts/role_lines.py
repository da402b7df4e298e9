"""A few lines of text in roles (title, dim, warn …) that repaint only where a line changed. Knows nothing of runs or GPUs."""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

Piece = tuple[str, str]  # (text, role); role "" = the plain foreground
Line = tuple[Piece, ...]

STYLES = {
    "title": "bold",
    "dim": "$text-muted",
    "good": "$success",
    "warn": "bold $warning",
    "error": "bold $error",
    "one": "$primary",
    "two": "$accent",
    "three": "$success",
    "rest": "$text-disabled",
    "chip": "bold reverse $primary",
}
ROLE_CLASSES = {f"role--{role}" for role in STYLES}  # COMPONENT_CLASSES of a widget that draws lines in roles


def role_css(widget: str) -> str:
    """The looks of STYLES for the component classes of a kind of widget."""
    rules = []
    for role, style in STYLES.items():
        colour = "".join(f"color: {word}; " for word in style.split() if word.startswith("$"))
        marks = " ".join(word for word in style.split() if not word.startswith("$"))
        rules.append(f"{widget} > .role--{role} {{ {colour}{f'text-style: {marks}; ' if marks else ''}}}\n")
    return "".join(rules)


class Looks(dict[str, Style]):
    """The rich style of each role on a widget, looked up once until the widget's style changes. Marks may follow a role: "one+under" is
    underlined, "one+cursor" has its colours turned round."""

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self._widget = widget

    def __missing__(self, look: str) -> Style:
        role, *marks = look.split("+")
        style = self._widget.rich_style
        if role:
            style = style + self._widget.get_component_rich_style(f"role--{role}", partial=True)
        if marks:
            style = style + Style(underline="under" in marks or None, reverse="cursor" in marks or None)
        self[look] = style
        return style


def as_content(line: Line) -> Content:
    """The line for widgets that take Content."""
    return Content.assemble(*((text, STYLES.get(role, "")) for text, role in line))


class RoleLines(Widget):
    """Shows the lines given to `show`; as high as there are lines unless the style says otherwise. A line too long is cut with "…"."""

    COMPONENT_CLASSES: ClassVar[set[str]] = ROLE_CLASSES
    DEFAULT_CSS = "RoleLines { height: auto; width: 1fr; }\n" + role_css("RoleLines")

    def __init__(self, lines: Sequence[Line] = (), *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.lines: tuple[Line, ...] = tuple(lines)
        self._looks = Looks(self)

    def notify_style_update(self) -> None:
        """Another theme or class: the roles look different."""
        self._looks.clear()
        super().notify_style_update()

    def show(self, lines: Sequence[Line]) -> None:
        """Replace the lines; only those that differ are painted again."""
        old, self.lines = self.lines, tuple(lines)
        if len(old) != len(self.lines):
            self.refresh(layout=True)
            return
        changed = [Region(0, y, max(1, self.size.width), 1) for y, (before, after) in enumerate(zip(old, self.lines)) if before != after]
        if changed:
            self.refresh(*changed)

    def text(self) -> str:
        """The lines without their roles."""
        return "\n".join("".join(text for text, _ in line) for line in self.lines)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self.lines)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y >= len(self.lines):
            return Strip.blank(width, self._looks[""])
        strip = Strip([Segment(text, self._looks[role]) for text, role in self.lines[y]])
        if strip.cell_length > width > 1:
            strip = Strip([*strip.crop(0, width - 1), Segment("…", self._looks[""])])
        return strip.adjust_cell_length(width, self._looks[""])


def bar(width: int, parts: Sequence[tuple[float | None, str, str]], total: float | None) -> Line:
    """A bar of `width` cells: each part (amount, role, glyph) in its order, what is left of `total` as dots.

    Amounts add up (they do not overlap). A part above zero is at least one cell wide while there is room; parts differ by glyph, so
    that the bar reads without colours.
    """
    if not total or total <= 0 or width <= 0:
        return (("─" * max(0, width), "rest"),)
    pieces: list[Piece] = []
    used, so_far = 0, 0.0
    for amount, role, glyph in parts:
        if amount is None or not 0 < amount < float("inf"):
            continue
        so_far += amount
        end = min(width, max(used + 1, round(width * so_far / total)))
        if end > used:
            pieces.append((glyph * (end - used), role))
            used = end
    if used < width:
        pieces.append(("·" * (width - used), "rest"))
    return tuple(pieces)
