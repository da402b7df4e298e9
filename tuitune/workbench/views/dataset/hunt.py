"""What `n` and `N` go on with: the last search, or the list of rows that a look at the whole file has found. Plain data."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Hunt:
    """`op` and `args` of the search to repeat; or `pairs` of (row, the row it equals, of the file `other` when there is one)."""

    op: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    pairs: tuple[tuple[int, int], ...] = ()
    other: Path | None = None

    def step(self, row: int, by: int) -> tuple[int, int] | None:
        """The pair after (1) or before (-1) a row, round the end; None when there are none."""
        if not self.pairs:
            return None
        rows = [pair[0] for pair in self.pairs]
        at = bisect_right(rows, row) if by > 0 else bisect_left(rows, row) - 1
        return self.pairs[at % len(rows)]


def found_words(op: str, answer: dict[str, Any], other: str = "") -> str:
    """What a look at the whole file has found, as a sentence."""
    rows, count = answer["rows"], answer["count"]
    what = "repeat an earlier row" if op == "duplicates" else f"are in {other}, too"
    if not count:
        nothing = "no row repeats another" if op == "duplicates" else f"no row is in {other}, too"
        return f"{nothing} ({rows:,} rows compared)"
    listed = "" if len(answer["pairs"]) == count else f", the first {len(answer['pairs']):,} are listed"
    return f"{count:,} of {rows:,} rows {what}{listed}: n and N go through them"
