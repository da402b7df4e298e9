"""The x axis of a chart: its ends, what is marked on it, and in the axis' place the words of the marks under the value cursor. Pure."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tuitune.workbench.parts.role_lines import Line

SIGNS = {"checkpoint": "◆", "eval": "◇", "applied": "»", "crash": "✗", "number": "!", "alarm": "!", "oom": "!", "seam": "↻"}
FREQUENT = {"checkpoint", "eval"}  # left out where they would fill the axis: zoom in to see them
BORDER = "seam"  # drawn through the whole chart


class Mark(NamedTuple):
    """Something that happened at x: `kind` of the event, `words` about it."""

    x: float
    kind: str
    words: str = ""


class Scale(NamedTuple):
    """From x to one of `width` cells."""

    left: float
    right: float
    width: int

    def cell(self, x: float) -> int:
        """The cell of an x inside the scale."""
        return min(self.width - 1, round((x - self.left) / ((self.right - self.left) or 1.0) * (self.width - 1)))

    def holds(self, x: float) -> bool:
        """Whether an x is on screen."""
        return self.left <= x <= self.right


def borders(marks: Sequence[Mark], scale: Scale) -> frozenset[int]:
    """The cells where one attempt ends and the next begins."""
    return frozenset(scale.cell(mark.x) for mark in marks if mark.kind == BORDER and scale.holds(mark.x))


def marked_at(marks: Sequence[Mark], scale: Scale, cursor: float) -> list[Mark]:
    """The marks in the cell of the cursor, those with the most to say first."""
    here = [mark for mark in marks if mark.kind in SIGNS and scale.holds(mark.x) and scale.cell(mark.x) == scale.cell(cursor)]
    return sorted(here, key=lambda mark: mark.kind in FREQUENT)


def x_axis(marks: Sequence[Mark], scale: Scale, gutter: int, place: Callable[[float | None], str], cursor: float | None = None) -> Line:
    """The line below a chart; `gutter` cells are left for the labels of the y axis."""
    here = marked_at(marks, scale, cursor) if cursor is not None else []
    if here:
        words = " · ".join(f"{SIGNS[mark.kind]} {place(mark.x)} {mark.words}" for mark in here)
        return ((" " * gutter + "└", "rest"), (words if len(words) <= scale.width else words[: scale.width - 1] + "…", "warn"))
    cells = ["─"] * scale.width
    shown = [mark for mark in marks if scale.holds(mark.x) and mark.kind in SIGNS]
    if len(shown) > scale.width // 4:
        shown = [mark for mark in shown if mark.kind not in FREQUENT]
    for mark in sorted(shown, key=lambda mark: mark.kind not in FREQUENT):  # what is rare lies on top
        cells[scale.cell(mark.x)] = SIGNS[mark.kind]
    start, end = place(scale.left), place(scale.right)
    axis = "".join(cells)
    if len(start) + len(end) + 4 <= scale.width:
        axis = f"{start} {axis[len(start) + 1 : scale.width - len(end) - 1]} {end}"
    return ((" " * gutter + "└", "rest"), (axis, "dim"))
