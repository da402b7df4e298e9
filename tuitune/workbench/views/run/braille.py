"""Lines drawn with braille dots: two columns and four rows of dots in a cell. Pure functions over Series; nothing of Textual.

A dot column shows the lowest and the highest value that falls into it, so no spike is ever lost, however many points there are. The
work is proportional to the columns (min and max of array slices run in C), not to the points.
"""

import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tuitune.workbench.parts.role_lines import Line

# The dots of a braille cell by column and row, as bits above U+2800 (Unicode numbers them 1 2 3 7 and 4 5 6 8 downwards).
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
MASKS = tuple(tuple(tuple(sum(side[first : last + 1]) for last in range(4)) for first in range(4)) for side in DOTS)
NICE = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True)
class Bucket:
    """The points of one dot column: first, lowest, highest and last value."""

    first: float
    low: float
    high: float
    last: float


def buckets(xs: Sequence[float], ys: Sequence[float], left: float, right: float, columns: int) -> list[Bucket | None]:
    """The points with left ≤ x ≤ right in `columns` dot columns; values that are not finite are left out."""
    found: list[Bucket | None] = [None] * columns
    _fill(found, xs, ys, left, right, 0)
    return found


class Columns:
    """The dot columns of one line, kept while its window stays: points that are added cost only the columns they fall into."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._found: list[Bucket | None] = []
        self._last = 0

    def of(self, xs: Sequence[float], ys: Sequence[float], rewrites: int, left: float, right: float, columns: int) -> list[Bucket | None]:
        """As `buckets`. `rewrites`: changes when points that were there already changed."""
        key = (rewrites, left, right, columns)
        if key != self._key:
            self._key, self._found, self._last = key, [None] * columns, 0
        self._last = _fill(self._found, xs, ys, left, right, self._last)
        return self._found


def _fill(found: list[Bucket | None], xs: Sequence[float], ys: Sequence[float], left: float, right: float, first: int) -> int:
    """Fill the columns from `first` on; returns the last one that has points."""
    columns, span = len(found), (right - left) or 1.0
    start, end, last = bisect_left(xs, left + span * first / columns), len(xs), first
    for column in range(first, columns):
        if start >= end:
            break
        stop = bisect_left(xs, left + span * (column + 1) / columns, start, end) if column < columns - 1 else _after(xs, right, start)
        if stop > start:
            found[column] = _bucket(ys[start:stop])
            start, last = stop, column
    return last


def _after(xs: Sequence[float], x: float, start: int) -> int:
    at = bisect_left(xs, x, start)
    return at + (at < len(xs) and xs[at] == x)


def _bucket(values: Sequence[float]) -> Bucket | None:
    low, high = min(values), max(values)
    if not math.isfinite(sum(values)):  # nan and inf spread into the sum, and min() cannot be trusted with nan
        values = [value for value in values if math.isfinite(value)]
        if not values:
            return None
        low, high = min(values), max(values)
    return Bucket(values[0], low, high, values[-1])


def value_range(lines: Sequence[tuple[Sequence[float], Sequence[float]]], left: float, right: float) -> tuple[float, float] | None:
    """The lowest and highest finite y of several lines (xs, ys) with left ≤ x ≤ right, None when there is none."""
    lows, highs = [], []
    for xs, ys in lines:
        start = bisect_left(xs, left)
        bucket = _bucket(window) if (window := ys[start : _after(xs, right, start)]) else None
        if bucket is not None:
            lows.append(bucket.low)
            highs.append(bucket.high)
    return (min(lows), max(highs)) if lows else None


def nice_range(low: float, high: float) -> tuple[float, float]:
    """Round bounds around a range, so that an axis stays still while the values move a little."""
    if high <= low:
        room = abs(high) * 0.1 or 1.0
        low, high = low - room, high + room
    step = math.pow(10, math.floor(math.log10(high - low))) / 5
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    return (0.0 if low >= 0 and bottom < 0 else bottom), top


def nice_top(x: float) -> float:
    """The next round number at or above x: an axis that grows in strides does not repaint the whole chart at each point."""
    if x <= 0 or not math.isfinite(x):
        return 1.0
    power = math.pow(10, math.floor(math.log10(x)))
    return next((power * factor for factor in NICE if power * factor >= x), power * 10)


class Canvas:
    """A grid of braille cells; each cell has the role of the line drawn there last."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._bits = [bytearray(width) for _ in range(height)]
        self._roles: list[list[str]] = [[""] * width for _ in range(height)]

    def draw(self, columns: Sequence[Bucket | None], bottom: float, top: float, role: str, *, dotted: bool = False) -> None:
        """A line over 2 × width dot columns; columns without points are bridged straight. `dotted` leaves out every other pair of them."""
        rows = 4 * self.height
        scale, last_row = (rows - 1) / ((top - bottom) or 1.0), rows - 1
        spans: list[tuple[int, int]] = [(rows, -1)] * (2 * self.width)  # the first and last dot row of each dot column
        previous, previous_row = -1, 0
        for column, bucket in enumerate(columns):
            if bucket is None:
                continue
            first, high, low, last = (
                min(last_row, max(0, round((top - value) * scale))) for value in (bucket.first, bucket.high, bucket.low, bucket.last)
            )
            if previous >= 0:
                _join(spans, previous, previous_row, column, first)
            spans[column] = (min(high, spans[column][0]), max(low, spans[column][1]))
            previous, previous_row = column, last
        for column, (start, end) in enumerate(spans):
            if end >= 0 and not (dotted and column % 4 > 1):
                self._fill(column, start, end, role)

    def _fill(self, column: int, start: int, end: int, role: str) -> None:
        cell, side = divmod(column, 2)
        for line in range(start >> 2, (end >> 2) + 1):
            above = start - 4 * line if start > 4 * line else 0
            below = end - 4 * line if end < 4 * line + 3 else 3
            self._bits[line][cell] |= MASKS[side][above][below]
            self._roles[line][cell] = role

    def line(self, y: int, cursor: int | None = None, borders: Collection[int] = ()) -> Line:
        """The cells of one row as pieces of equal role; `cursor`: the cell column that a vertical bar goes through, `borders`: those with
        a thin one where nothing is drawn."""
        pieces: list[tuple[str, str]] = []
        text, role = "", ""
        for x, bits in enumerate(self._bits[y]):
            if x == cursor:
                char, its_role = (chr(0x2800 + bits), "chip") if bits else ("│", "warn")
            elif x in borders and not bits:
                char, its_role = "┊", "rest"
            else:
                char, its_role = (chr(0x2800 + bits), self._roles[y][x]) if bits else (" ", "" if role == "chip" else role)
            if its_role != role:
                if text:
                    pieces.append((text, role))
                text, role = "", its_role
            text += char
        return (*pieces, (text, role)) if text else tuple(pieces)


def _join(spans: list[tuple[int, int]], column: int, row: int, next_column: int, next_row: int) -> None:
    """A straight line from the last point of one column to the first of another, added to the columns' spans."""
    steps = next_column - column
    for offset in range(1, steps + 1):
        here = row + round((next_row - row) * offset / steps) if steps > 1 else next_row
        before = row + round((next_row - row) * (offset - 1) / steps) if steps > 1 else row
        left, right = column + offset - 1, column + offset
        middle = (before + here) // 2  # a steep step is shared by the two columns, a gentle one needs no joint
        if here < before - 1:
            spans[left] = (min(spans[left][0], middle + 1), max(spans[left][1], before))
            spans[right] = (min(spans[right][0], here), max(spans[right][1], middle))
        elif here > before + 1:
            spans[left] = (min(spans[left][0], before), max(spans[left][1], middle))
            spans[right] = (min(spans[right][0], middle + 1), max(spans[right][1], here))
        else:
            spans[right] = (min(spans[right][0], here), max(spans[right][1], here))
