"""From what each side made of each row to the figures of an evaluation, each with its interval. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuitune.after.metrics import MEANINGS
from tuitune.after.statistics import Interval, bootstrap, paired, ratio, wilson


@dataclass
class Scores:
    """What one model made of one row. None: not measured, or not measurable on this row.

    `nats`, `tokens`: of what counts for the loss; `answer`: as written, `ended`: "stop token" or "length"; `choice_nats`: of each choice.
    The rest is right or wrong.
    """

    nats: float | None = None
    tokens: int = 0
    answer: str | None = None
    ended: str | None = None
    exact: bool | None = None
    regex: bool | None = None
    choice: bool | None = None
    choice_bytes: bool | None = None
    choice_nats: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What was measured, for JSON."""
        return {key: value for key, value in vars(self).items() if value not in (None, []) and (key != "tokens" or value)}


@dataclass(frozen=True)
class Figure:
    """A metric of each side over the same rows. `difference` and `interval` are second side minus first, where there are two; of perplexity
    (`factor`) second over first. `intervals`: of each side by itself."""

    name: str
    rows: int
    tokens: int | None
    values: dict[str, float]
    intervals: dict[str, Interval | None]
    difference: float | None = None
    interval: Interval | None = None
    factor: bool = False

    @property
    def clear(self) -> bool:
        """Whether the interval of the difference leaves chance out."""
        if self.interval is None:
            return False
        return Interval(self.interval.low - self.factor, self.interval.high - self.factor).without_zero()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        meaning = MEANINGS[self.name]
        return {
            "name": self.name,
            "title": meaning.title,
            "better": meaning.better,
            "rows": self.rows,
            "tokens": self.tokens,
            "values": self.values,
            "intervals": {side: interval and interval.as_list() for side, interval in self.intervals.items()},
            "difference": self.difference,
            "interval": self.interval and self.interval.as_list(),
            "difference_is": "factor" if self.factor else "difference",
            "clear": self.clear,
        }


def figures(scores: Mapping[str, Sequence[Scores]]) -> list[Figure]:
    """All that was measured. `scores`: by side, "base" first, rows in the same order; a row counts for a metric where every side has it."""
    found = _losses(scores)
    shares: list[tuple[str, Callable[[Scores], bool | None]]] = [
        ("exact", lambda one: one.exact),
        ("regex", lambda one: one.regex),
        ("choice", lambda one: one.choice),
        ("choice_bytes", lambda one: one.choice_bytes),
        ("stopped", lambda one: None if one.ended is None else one.ended == "stop token"),
    ]
    for name, read in shares:
        values = {side: [read(one) for one in rows] for side, rows in scores.items()}
        measured = [row for row, all_sides in enumerate(zip(*values.values(), strict=True)) if None not in all_sides]
        if measured:
            found.append(_share(name, {side: [float(bool(rows[row])) for row in measured] for side, rows in values.items()}))
    return found


def _losses(scores: Mapping[str, Sequence[Scores]]) -> list[Figure]:
    rows = [row for row in zip(*scores.values(), strict=True) if all(one.nats is not None and one.tokens for one in row)]
    if not rows:
        return []
    sides, tokens = list(scores), [row[0].tokens for row in rows]
    nats = {side: [float(row[number].nats or 0.0) for row in rows] for number, side in enumerate(sides)}
    values = {side: ratio(column, tokens) for side, column in nats.items()}
    intervals = {side: bootstrap(column, tokens) for side, column in nats.items()}
    difference = interval = None
    if len(sides) == 2:
        before, after = sides
        difference, interval = values[after] - values[before], paired(nats[before], nats[after], tokens)
    whole = Figure("nll", len(rows), sum(tokens), values, intervals, difference, interval)
    return [whole, _perplexity(whole)]


def _perplexity(nll: Figure) -> Figure:
    """The same in another scale: the difference of two logarithms is a factor."""

    def raised(interval: Interval | None) -> Interval | None:
        return interval and Interval(_exp(interval.low), _exp(interval.high))

    values = {side: _exp(value) for side, value in nll.values.items()}
    intervals = {side: raised(interval) for side, interval in nll.intervals.items()}
    factor = None if nll.difference is None else _exp(nll.difference)
    return Figure("perplexity", nll.rows, nll.tokens, values, intervals, factor, raised(nll.interval), factor=True)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # beyond it there is no such float


def _share(name: str, values: Mapping[str, Sequence[float]]) -> Figure:
    rows = len(next(iter(values.values())))
    shares = {side: sum(column) / rows for side, column in values.items()}
    intervals = {side: wilson(int(sum(column)), rows) for side, column in values.items()}
    difference = interval = None
    if len(values) == 2:
        (before, early), (after, late) = values.items()
        difference, interval = shares[after] - shares[before], paired(early, late)
    return Figure(name, rows, None, shares, intervals, difference, interval)
