"""What checks of rows share: places, shares in words, and the fix that leaves rows out."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tuitune.preflight.finding import DataCopy, Fix, Where
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.raw_rows import RawRow, RawSplit

SHOWN = 10  # rows that are named in the evidence


def at(split: "RawSplit", row: "RawRow") -> Where:
    """The place of a row."""
    return Where(row.file, row.line, split=split.name, row=row.row, view="dataset")


def line(row: "RawRow") -> str:
    """file:line, with the file's own name only."""
    return f"{printable(row.file.rpartition('/')[2])}:{row.line}"


def evidence(rows: "Sequence[RawRow]", of: int, **more: Any) -> dict[str, Any]:
    """How many rows of how many, and which: numbers in the split."""
    return {"count": len(rows), "of": of, "rows": [row.row for row in rows[:SHOWN]], **more}


def share(count: int, of: int) -> str:
    """ "3 of 24 rows (12.5 %)" """
    return f"{count:,} of {of:,} rows ({100 * count / max(of, 1):.3g} %)"


def leave_out(split: "RawSplit", rows: "Iterable[RawRow]", what: str) -> Fix | None:
    """The fix that trains on a copy of the data without these rows; None where there is no file to copy, or nothing would be left."""
    return leave_out_numbers(split, ((row.source, row.number) for row in rows), what)


def leave_out_numbers(split: "RawSplit", places: Iterable[tuple[int, int]], what: str) -> Fix | None:
    """As `leave_out`; `places`: (source, number in its file)."""
    drop: dict[int, set[int]] = {}
    for source, number in places:
        drop.setdefault(source, set()).add(number)
    kept = (len(split.sources[source].rows) > len(numbers) and split.sources[source].is_file for source, numbers in drop.items())
    if not drop or not all(kept):
        return None
    copies = tuple(DataCopy(split.name, source, tuple(sorted(numbers))) for source, numbers in sorted(drop.items()))
    return Fix(f"Train on a copy of the data without the {sum(map(len, drop.values())):,} rows {what}", copies=copies)


def rewrite(split: "RawSplit", rows: "Iterable[RawRow]", title: str, *steps: str, automatic: bool, **options: Any) -> Fix | None:
    """The fix that trains on copies of the sources of these rows that went through steps; None where there is no file to copy."""
    sources = sorted({row.source for row in rows})
    if not all(split.sources[source].is_file for source in sources):
        return None
    return Fix(title, automatic, copies=tuple(DataCopy(split.name, source, steps=steps, options=options) for source in sources))
