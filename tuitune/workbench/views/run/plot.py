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
from tuitune.workbench.views.run.axis import Mark, Scale, borders, x_axis
from tuitune.workbench.views.run.braille import Bucket, Canvas, Columns, nice_range, nice_top, value_range

SMOOTHING = ((0.0, ""), (0.6, "light"), (0.9, "medium"), (0.97, "strong"))
NARROWEST = 4.0  # a window shows at least so many units of x


@dataclass(frozen=True)
class PlotLine:
    """One line of a chart. `dotted` tells it from another one where there are no colours; such a line is never smoothed.

    `short` is its label where the heading has little room.
    """

    label: str
    role: str
    series: Series
    dotted: bool = False
    short: str = ""


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
    marks: Sequence[Mark] = ()
    empty: str = "nothing yet"
    short: str = ""  # the title where the heading has little room

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

    def show(self, figure: Figure, x: float) -> None:
        """Put the cursor on an x and show it."""
        self.cursor = x
        left, right = self.bounds(figure)
        if self.span is not None and not left <= x <= right:
            self.end = x + self.span / 2

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


@dataclass(frozen=True)
class Look:
    """How a chart is drawn: whether the keys go to it, the scale, the smoothing weight (0 = none), and whether it says in words what is
    marked under the cursor."""

    active: bool = False
    log: bool = False
    weight: float = 0.0
    words: bool = True


@dataclass
class Memo:
    """What a chart keeps from one drawing to the next, by the identity of a series: its smoothed values and its dot columns."""

    smooths: dict[int, Smooth] = field(default_factory=dict)
    columns: dict[tuple[int, bool], Columns] = field(default_factory=dict)

    def smooth(self, line: PlotLine, weight: float) -> "array[float]":
        """The line's smoothed values."""
        kept = self.smooths.get(id(line.series))
        if kept is None or kept.weight != weight:
            kept = self.smooths[id(line.series)] = Smooth(weight)
            self.columns.pop((id(line.series), True), None)
        return kept.of(line.series)


@dataclass(frozen=True)
class _Drawn:
    line: PlotLine
    ys: Sequence[float]
    role: str
    smoothed: bool


def plot(figure: Figure, window: Window, width: int, height: int, look: Look = Look(), memo: Memo | None = None) -> list[Line]:
    """The chart, `height` lines of `width` cells. `memo` is given back at the next drawing of the same chart."""
    memo = memo or Memo()
    left, right = window.bounds(figure)
    lines_down = figure.lines[::-1]
    smoothed = [line for line in lines_down if look.weight and not line.dotted]  # a dotted line has few points, each of its own weight
    drawn = [_Drawn(line, line.series.ys, "rest" if line in smoothed else line.role, False) for line in lines_down]
    drawn += [_Drawn(line, memo.smooth(line, look.weight), line.role, True) for line in smoothed]
    drawn.sort(key=lambda item: item.line.dotted)  # what is drawn last lies on top: dotted lines leave room for what is below them
    rows = max(1, height - 2)
    heading = _heading(figure, window, width, look)
    span = value_range([(item.line.series.xs, item.ys) for item in drawn], left, right)
    if span is None:
        blank: list[Line] = [() for _ in range(rows + 1)]
        blank[rows // 2] = ((" " * max(0, (width - len(figure.empty)) // 2) + figure.empty, "dim"),)
        return [heading, *blank][:height]
    log = look.log and span[1] > 0
    bottom, top = _bounds(figure, *span, log=log)
    labels = _labels(figure, bottom, top, rows, log)
    gutter = max(len(label) for label in labels.values())
    canvas = Canvas(max(4, width - gutter - 1), rows)
    for item in drawn:
        kept = memo.columns.setdefault((id(item.line.series), item.smoothed), Columns())
        xs = item.line.series.xs
        columns = kept.of(xs, item.ys, item.line.series.rewrites, left, right, 2 * canvas.width)
        canvas.draw([_logarithm(bucket) for bucket in columns] if log else columns, bottom, top, item.role, dotted=item.line.dotted)
    scale = Scale(left, right, canvas.width)
    cursor = None if window.cursor is None else scale.cell(window.cursor)
    seams = borders(figure.marks, scale)
    lines: list[Line] = [heading]
    for y in range(rows):
        lines.append(((labels.get(y, "").rjust(gutter), "dim"), ("┤" if y in labels else "│", "rest"), *canvas.line(y, cursor, seams)))
    return [*lines, x_axis(figure.marks, scale, gutter, figure.place, window.cursor if look.words else None)][:height]


def _bounds(figure: Figure, low: float, high: float, *, log: bool) -> tuple[float, float]:
    if log:
        high = math.log10(high)
        low = math.log10(low) if low > 0 else high - 3  # values at or below zero have no place here: three powers of ten are shown
        return low, max(high, low + 0.1)
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


def _heading(figure: Figure, window: Window, width: int, look: Look) -> Line:
    """Title and values; in short words, then without blanks, where they do not fit: the values are what it is read for."""
    pieces: list[Piece] = []
    for short, tight in ((False, False), (True, False), (True, True)):
        pieces = _heading_pieces(figure, window, look, short, tight)
        if _length(pieces) <= width:
            break
    used, notes = _length(pieces), _notes(window, look)
    if notes and used + len(notes) + 2 <= width:
        pieces.append((notes.rjust(width - used), "dim"))
    return tuple(pieces)


def _heading_pieces(figure: Figure, window: Window, look: Look, short: bool, tight: bool) -> list[Piece]:
    title = (figure.short if short else "") or figure.title
    pieces: list[Piece] = [("▸ " if look.active else "  ", "one"), (title, "title" if look.active else "")]
    reading = window.cursor is not None and any(len(line.series) for line in figure.lines)
    if reading:
        pieces.append((f" {'' if short else f'at {figure.place_word} '}{figure.place(window.cursor)}", "warn"))
    for line in figure.lines:
        value = line.series.at(window.cursor) if reading and window.cursor is not None else line.series.last
        if value is None:
            continue
        label = (line.short if short else "") or line.label
        pieces += [
            (" " if tight else "  ", ""),
            (("┅" if line.dotted else "━") + ("" if tight else " "), line.role),
            (f"{label} " if label and label != figure.title else "", "dim"),
            (figure.value(value), "title" if reading else ""),
        ]
    return pieces


def _length(pieces: Sequence[Piece]) -> int:
    return sum(len(text) for text, _ in pieces)


def _notes(window: Window, look: Look) -> str:
    name = next((name for weight, name in SMOOTHING if weight == look.weight), "")
    words = ["log" if look.log else "", f"{name} smoothing" if name else "", "zoomed" if window.span is not None else ""]
    return " · ".join(word for word in words if word)
