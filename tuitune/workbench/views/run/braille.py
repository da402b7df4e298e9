"""Lines drawn with braille dots: two columns and four rows of dots in a cell. Pure functions over Series; nothing of Textual.

A dot column shows the lowest and the highest value that falls into it, so no spike is ever lost, however many points there are. The
work is proportional to the columns (min and max of array slices run in C), not to the points.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tuitune.workbench.parts.role_lines import Line

# The dots of a braille cell by column and row, as bits above U+2800 (Unicode numbers them 1 2 3 7 and 4 5 6 8 downwards).
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
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
    start, end = bisect_left(xs, left), len(xs)
    span = (right - left) or 1.0
    for column in range(columns):
        if start >= end:
            break
        stop = bisect_left(xs, left + span * (column + 1) / columns, start, end) if column < columns - 1 else _after(xs, right, start)
        if stop > start:
            found[column] = _bucket(ys[start:stop])
            start = stop
    return found


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


def value_range(columns: Sequence[Sequence[Bucket | None]]) -> tuple[float, float] | None:
    """The lowest and highest value of several lines, None when there is none."""
    present = [bucket for line in columns for bucket in line if bucket is not None]
    return (min(bucket.low for bucket in present), max(bucket.high for bucket in present)) if present else None


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
        scale = (rows - 1) / ((top - bottom) or 1.0)

        def row(value: float) -> int:
            return min(rows - 1, max(0, round((top - value) * scale)))

        known = [(column, bucket) for column, bucket in enumerate(columns) if bucket is not None]
        for column, bucket in known:
            self._dots(column, row(bucket.high), row(bucket.low), role, dotted)
        for (column, before), (next_column, after) in pairwise(known):
            start, end = row(before.last), row(after.first)
            steps = next_column - column
            previous = start
            for offset in range(1, steps + 1):
                here = start + round((end - start) * offset / steps)
                middle = (previous + here) // 2  # a steep step is shared by the two columns, a gentle one needs no joint
                if here < previous - 1:
                    self._dots(column + offset - 1, middle + 1, previous, role, dotted)
                    self._dots(column + offset, here, middle, role, dotted)
                elif here > previous + 1:
                    self._dots(column + offset - 1, previous, middle, role, dotted)
                    self._dots(column + offset, middle + 1, here, role, dotted)
                else:
                    self._dots(column + offset, here, here, role, dotted)
                previous = here

    def _dots(self, column: int, first_row: int, last_row: int, role: str, dotted: bool) -> None:
        if dotted and column % 4 > 1:
            return
        cell, side = divmod(column, 2)
        for dot_row in range(first_row, last_row + 1):
            line, part = divmod(dot_row, 4)
            self._bits[line][cell] |= DOTS[side][part]
            self._roles[line][cell] = role

    def line(self, y: int, cursor: int | None = None) -> Line:
        """The cells of one row as pieces of equal role; `cursor`: the cell column that a vertical bar goes through."""
        pieces: list[tuple[str, str]] = []
        text, role = "", ""
        for x, bits in enumerate(self._bits[y]):
            if x == cursor:
                char, its_role = (chr(0x2800 + bits), "chip") if bits else ("│", "warn")
            else:
                char, its_role = (chr(0x2800 + bits), self._roles[y][x]) if bits else (" ", role)
            if its_role != role:
                if text:
                    pieces.append((text, role))
                text, role = "", its_role
            text += char
        return (*pieces, (text, role)) if text else tuple(pieces)
