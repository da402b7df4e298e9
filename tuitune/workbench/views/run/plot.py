"""A chart as lines of text: title or value under the cursor, y axis, dots, x axis with marks. Pure functions over Series.

`Window` is which part of the x axis is shown; charts over steps share one, so zooming and the value cursor stay together.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tuitune.workbench import figures
from tuitune.workbench.parts.role_lines import Line, Piece
from tuitune.workbench.series import Series
from tuitune.workbench.views.run.braille import Bucket, Canvas, buckets, nice_range, nice_top, value_range

SMOOTHING = ((0.0, ""), (0.6, "light"), (0.9, "medium"), (0.97, "strong"))
MARKS = {"checkpoint": "◆", "eval": "◇", "applied": "»", "crash": "✗", "number": "!", "attempt": "↻"}
FREQUENT = {"checkpoint", "eval"}  # left out where they would fill the axis: zoom in to see them
NARROWEST = 4.0  # a window shows at least so many units of x


@dataclass(frozen=True)
class PlotLine:
    """One line of a chart. `dotted` tells it from another one where there are no colours."""

    label: str
    role: str
    series: Series
    dotted: bool = False


@dataclass(frozen=True)
class Figure:
    """What a chart shows. `value` writes a y, `tick` one at the axis, `place` an x; `limit`: how far x will go, when that is known."""

    title: str
    lines: Sequence[PlotLine]
    value: Callable[[float | None], str] = figures.number
    tick: Callable[[float | None], str] = figures.tick
    place: Callable[[float | None], str] = figures.number
    place_word: str = "step"
    limit: float | None = None
    unit: float = 1.0  # what the axis' round numbers are multiples of
    from_zero: bool = False
    marks: Sequence[tuple[float, str]] = ()  # (x, kind of event)
    empty: str = "nothing yet"

    @property
    def extent(self) -> tuple[float, float] | None:
        """The first and last x of all lines."""
        present = [line.series.xs for line in self.lines if len(line.series)]
        return (min(xs[0] for xs in present), max(xs[-1] for xs in present)) if present else None


@dataclass
class Window:
    """`span` None = everything; `end` None = follow the newest point. `cursor`: the x whose values are read out."""

    span: float | None = None
    end: float | None = None
    cursor: float | None = None

    def bounds(self, figure: Figure) -> tuple[float, float]:
        """The x range on screen. While a run grows it moves in strides, so that most of the picture stays as it is."""
        first, last = figure.extent or (0.0, 1.0)
        first = 0.0 if 0 <= first < last / 4 else first  # steps count from 1: an axis that starts at 0 has rounder ends
        if self.span is None:
            width = nice_top(max(last - first, NARROWEST))
            right = first + width
            return first, min(right, figure.limit) if figure.limit is not None and figure.limit >= last else right
        if self.end is not None:
            return self.end - self.span, self.end
        stride = self.span / 8
        right = first + math.ceil((last - first) / stride) * stride
        return right - self.span, right

    def zoom(self, figure: Figure, factor: float) -> None:
        """Show `factor` times as much; around the cursor when there is one, else at the newest end."""
        left, right = self.bounds(figure)
        span = max(NARROWEST, (right - left) * factor)
        first, last = figure.extent or (0.0, 1.0)
        if span >= nice_top(max(last - first, NARROWEST)):
            self.span = self.end = None
            return
        self.span = span
        self.end = None if self.cursor is None else min(max(self.cursor + span / 2, first + span), max(last, first + span))

    def move(self, figure: Figure, by: int, cells: int) -> None:
        """Move the cursor by a cell, or to the next point where points are further apart; the window follows it."""
        points = next((line.series.xs for line in figure.lines if len(line.series)), None)
        if points is None:
            return
        left, right = self.bounds(figure)
        if self.cursor is None:
            self.cursor = points[-1]
        else:
            target = self.cursor + by * (right - left) / max(1, cells)
            at = bisect_left(points, target) if by > 0 else bisect_right(points, target) - 1
            self.cursor = points[min(len(points) - 1, max(0, at))]
        if self.span is not None and not left <= self.cursor <= right:
            self.end = self.cursor + (0 if by > 0 else self.span)

    def fit(self) -> None:
        """Everything, without a cursor."""
        self.span = self.end = self.cursor = None


@dataclass
class Smooth:
    """A line smoothed with an exponential mean (weight of the past), kept up point by point."""

    weight: float
    ys: "array[float]" = field(default_factory=lambda: array("d"))
    _rewrites: int = -1
    _mean: float = 0.0
    _trust: float = 0.0

    def of(self, series: Series) -> "array[float]":
        """The smoothed values beside series.xs; only new points cost work."""
        if series.rewrites != self._rewrites or len(self.ys) > len(series):
            self._rewrites, self._mean, self._trust = series.rewrites, 0.0, 0.0
            del self.ys[:]
        for value in series.ys[len(self.ys) :]:
            if math.isfinite(value):
                self._mean = self.weight * self._mean + (1 - self.weight) * value
                self._trust = self.weight * self._trust + (1 - self.weight)  # so that the first points are not pulled to zero
            self.ys.append(self._mean / self._trust if self._trust else value)
        return self.ys


def plot(
    figure: Figure, window: Window, width: int, height: int, *, active: bool, log: bool = False, smooths: Sequence[Smooth] = ()
) -> list[Line]:
    """The chart, `height` lines of `width` cells. `smooths`: one for each line of the figure, or none."""
    left, right = window.bounds(figure)
    drawn: list[tuple[Sequence[float], Sequence[float], str, bool]] = []
    for index, line in enumerate(figure.lines):
        if smooths:
            drawn.append((line.series.xs, line.series.ys, "rest", line.dotted))
            drawn.append((line.series.xs, smooths[index].of(line.series), line.role, line.dotted))
        else:
            drawn.append((line.series.xs, line.series.ys, line.role, line.dotted))
    rows = max(1, height - 2)
    heading = _heading(figure, window, width, active=active, notes=_notes(window, log=log, smooths=smooths))
    plotted = _columns(drawn, left, right, 2 * (width - 4), log)
    span = value_range(plotted)
    if span is None:
        blank: list[Line] = [() for _ in range(rows + 1)]
        blank[rows // 2] = ((" " * max(0, (width - len(figure.empty)) // 2) + figure.empty, "dim"),)
        return [heading, *blank][:height]
    bottom, top = _bounds(figure, *span, log=log)
    labels = _labels(figure, bottom, top, rows, log)
    gutter = max(len(label) for label in labels.values())
    canvas = Canvas(max(4, width - gutter - 1), rows)
    for (*_, role, dotted), columns in zip(drawn, _columns(drawn, left, right, 2 * canvas.width, log)):
        canvas.draw(columns, bottom, top, role, dotted=dotted)
    cursor = None if window.cursor is None else round((window.cursor - left) / ((right - left) or 1.0) * (canvas.width - 1))
    lines: list[Line] = [heading]
    for y in range(rows):
        lines.append(((labels.get(y, "").rjust(gutter), "dim"), ("┤" if y in labels else "│", "rest"), *canvas.line(y, cursor)))
    return [*lines, _x_axis(figure, left, right, gutter, canvas.width)][:height]


def _columns(
    drawn: Sequence[tuple[Sequence[float], Sequence[float], str, bool]], left: float, right: float, columns: int, log: bool
) -> list[list[Bucket | None]]:
    found = [buckets(xs, ys, left, right, max(2, columns)) for xs, ys, _, _ in drawn]
    return [[_logarithm(bucket) for bucket in line] for line in found] if log else found


def _bounds(figure: Figure, low: float, high: float, *, log: bool) -> tuple[float, float]:
    if log:
        return low, max(high, low + 1)
    bottom, top = nice_range(0.0 if figure.from_zero else low / figure.unit, high / figure.unit)
    return bottom * figure.unit, top * figure.unit


def _logarithm(bucket: Bucket | None) -> Bucket | None:
    if bucket is None or bucket.high <= 0:
        return None
    low = bucket.low if bucket.low > 0 else bucket.high
    return Bucket(*(math.log10(value if value > 0 else low) for value in (bucket.first, low, bucket.high, bucket.last)))


def _labels(figure: Figure, bottom: float, top: float, rows: int, log: bool) -> dict[int, str]:
    places = {0, rows - 1} | ({(rows - 1) // 2} if rows >= 5 else set())
    values = {row: top - (top - bottom) * row / max(1, rows - 1) for row in sorted(places)}
    return {row: figure.tick(10**value if log else value) for row, value in values.items()}


def _heading(figure: Figure, window: Window, width: int, *, active: bool, notes: str) -> Line:
    pieces: list[Piece] = [("▸ " if active else "  ", "one"), (figure.title, "title" if active else "")]
    reading = window.cursor is not None and any(len(line.series) for line in figure.lines)
    if reading:
        pieces.append((f" at {figure.place_word} {figure.place(window.cursor)}", "warn"))
    for line in figure.lines:
        value = line.series.at(window.cursor) if reading and window.cursor is not None else line.series.last
        if value is None:
            continue
        label = f"{line.label} " if line.label and line.label != figure.title else ""
        pieces += [
            ("  ", ""),
            ("┅ " if line.dotted else "━ ", line.role),
            (label, "dim"),
            (figure.value(value), "title" if reading else ""),
        ]
    used = sum(len(text) for text, _ in pieces)
    if notes and used + len(notes) + 2 <= width:
        pieces.append((notes.rjust(width - used), "dim"))
    return tuple(pieces)


def _notes(window: Window, *, log: bool, smooths: Sequence[Smooth]) -> str:
    weight = smooths[0].weight if smooths else 0.0
    name = next((name for value, name in SMOOTHING if value == weight), "")
    words = ["log" if log else "", f"{name} smoothing" if name else "", "zoomed" if window.span is not None else ""]
    return " · ".join(word for word in words if word)


def _x_axis(figure: Figure, left: float, right: float, gutter: int, width: int) -> Line:
    cells = ["─"] * width
    marks = [(x, kind) for x, kind in figure.marks if left <= x <= right and kind in MARKS]
    if len(marks) > width // 4:
        marks = [(x, kind) for x, kind in marks if kind not in FREQUENT]
    for x, kind in marks:
        cells[min(width - 1, round((x - left) / ((right - left) or 1.0) * (width - 1)))] = MARKS[kind]
    start, end = figure.place(left), figure.place(right)
    axis = "".join(cells)
    if len(start) + len(end) + 4 <= width:
        axis = f"{start} {axis[len(start) + 1 : width - len(end) - 1]} {end}"
    return ((" " * gutter + "└", "rest"), (axis, "dim"))
