"""Rows as lines of a table: only what is on screen is drawn, rows that are not there yet show "…". Pure functions and plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from tuitune.text import printable

Brief = Mapping[str, Any]  # tuitune.dataset.reader.cells.brief
NARROWEST = 8  # cells of a column
KEPT = 1_000  # rows kept around the cursor
WAITING = "…"


def counted(number: int, what: str) -> str:
    """ "1 row", "2 rows"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Columns:
    """Which columns are drawn, each with its width in cells; `first`: how many are left out at the left."""

    names: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    first: int = 0


def arrange(names: Sequence[str], rows: Sequence[Brief], width: int, first: int = 0) -> Columns:
    """The columns from number `first` on that fit into `width` cells. Short columns get what they need, long ones share the rest."""
    first = max(0, min(first, len(names) - 1))
    shown = list(names[first : first + max(1, (width + 1) // (NARROWEST + 1))])
    if not shown:
        return Columns()
    needed = {name: max(NARROWEST, cell_len(name)) for name in shown}
    for row in rows[:100]:
        for name, text, _ in row.get("cells", ()):
            if name in needed:
                needed[name] = max(needed[name], min(width, cell_len(text)))
    room = width - (len(shown) - 1)
    widths: dict[str, int] = {}
    for index, name in enumerate(sorted(shown, key=lambda name: needed[name])):
        share = (room - sum(widths.values())) // (len(shown) - index)
        widths[name] = max(1, min(needed[name], share))
    widths[shown[-1]] += max(0, room - sum(widths.values()))
    return Columns(tuple(shown), tuple(widths[name] for name in shown), first)


def heading(columns: Columns, digits: int) -> str:
    """The names over the columns."""
    more = "‹" if columns.first else " "
    return f"{more}{'row':>{digits}} " + " ".join(set_cell_size(printable(name, limit=80), width) for name, width in _pairs(columns))


def _pairs(columns: Columns) -> list[tuple[str, int]]:
    return list(zip(columns.names, columns.widths))


def row_content(row: Brief, columns: Columns, digits: int) -> Content:
    """One row as a line; a row that cannot be read says why."""
    number = (f" {row['row'] + 1:>{digits}} ", "$text-disabled")
    if "error" in row:
        return Content.assemble(number, (printable(row["error"], limit=300), "$error"))
    values = {name: (text, length) for name, text, length in row["cells"]}
    cells = []
    for name, width in _pairs(columns):
        text, length = values.get(name, ("", 0))
        cells.append(fitted(text, length, width))
    return Content.assemble(number, " ".join(cells))


def fitted(text: str, length: int, width: int) -> str:
    """A cell of exactly `width` cells; what is cut ends in "…"."""
    shown = printable(text[: width + 1])
    if cell_len(shown) <= width and length <= len(text):
        return set_cell_size(shown, width)
    return set_cell_size(shown, max(0, width - 1)) + "…"


@dataclass(frozen=True)
class Lines(Sequence[Content]):
    """What the list draws: `total` rows of which some are there."""

    total: int = 0
    rows: Mapping[int, Brief] = field(default_factory=dict)
    columns: Columns = Columns()
    digits: int = 3

    def __len__(self) -> int:
        return self.total

    @overload
    def __getitem__(self, index: int) -> Content: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Content]: ...
    def __getitem__(self, index: int | slice) -> Content | Sequence[Content]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self.total))]
        if not 0 <= index < self.total:
            raise IndexError(index)
        row = self.rows.get(index)
        if row is None:
            return Content.assemble((f" {index + 1:>{self.digits}} {WAITING}", "$text-disabled"))
        return row_content(row, self.columns, self.digits)


def with_rows(rows: Mapping[int, Brief], more: Sequence[Brief], centre: int) -> dict[int, Brief]:
    """The rows with some more, without those that are far from the row `centre`."""
    found = {**rows, **{row["row"]: row for row in more}}
    if len(found) <= KEPT:
        return found
    nearest = sorted(found, key=lambda number: abs(number - centre))[: KEPT // 2]
    return {number: found[number] for number in sorted(nearest)}


def missing(rows: Mapping[int, Brief], top: int, height: int, count: int) -> tuple[int, int] | None:
    """(first row, how many) to ask for next, so that the `height` rows from `top` on and a page at each side are there; None: nothing."""
    for begin, end in ((top, top + height), (top + height, top + 2 * height), (top - height, top)):
        gap = next((number for number in range(max(0, begin), min(end, count)) if number not in rows), None)
        if gap is not None:
            start = max(0, gap - height) if begin < top else gap
            return start, min(2 * height, max(1, count - start))
    return None
