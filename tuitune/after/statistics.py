"""How sure a figure is: intervals for shares and for differences that are measured on the same rows twice.

Pure: lists of numbers in, numbers out, the same for the same seed. numpy is imported inside, because only job processes count this much.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

DRAWS = 10_000
CONFIDENCE = 0.95
SEED = 0
_Z = 1.959963984540054  # the normal distribution's 97.5 % point
_AT_ONCE = 4_000_000  # row numbers in memory: 32 MB


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float

    def without_zero(self) -> bool:
        """Whether all of it lies on one side of zero."""
        return self.low > 0 or self.high < 0

    def as_list(self) -> list[float]:
        """For JSON."""
        return [self.low, self.high]


def wilson(successes: int, trials: int) -> Interval | None:
    """The score interval of a share (Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22);
    None without a trial. It stays inside 0 to 1 and keeps a width where the share is 0 or 1, as the normal approximation does not."""
    if trials == 0:
        return None
    share, z2 = successes / trials, _Z * _Z
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Interval(0.0 if successes == 0 else low, 1.0 if successes == trials else high)


def ratio(values: Sequence[float], weights: Sequence[float]) -> float:
    """The sum of `values` over the sum of `weights`: nats a token from the nats and the tokens of each row. NaN without weight."""
    total = math.fsum(weights)
    return math.fsum(values) / total if total else math.nan


def bootstrap(values: Sequence[float], weights: Sequence[float] | None = None, *, draws: int = DRAWS, seed: int = SEED) -> Interval | None:
    """The percentile interval of `ratio` over rows drawn with replacement (Efron & Tibshirani 1993, "An introduction to the bootstrap",
    chapters 13 and 16.4); `weights`: 1 a row when left out. None for fewer than two rows, which say nothing of how rows differ.

    Given each row's difference between two models it is the paired bootstrap (Koehn 2004, "Statistical significance tests for machine
    translation evaluation"): both models see the same drawn rows, so what makes a row hard for both cancels out. With a handful of rows it
    is somewhat too narrow: a percentile interval of six rows covers some 85 to 90 % instead of 95 %.
    """
    import numpy

    count = len(values)
    if count < 2:
        return None
    over = numpy.asarray(values, dtype=numpy.float64)
    under = numpy.ones(count) if weights is None else numpy.asarray(weights, dtype=numpy.float64)
    generator, means = numpy.random.default_rng(seed), []
    at_once = max(1, _AT_ONCE // count)
    for start in range(0, draws, at_once):
        drawn = generator.integers(0, count, (min(at_once, draws - start), count))
        weight = under[drawn].sum(axis=1)
        means.append(over[drawn].sum(axis=1)[weight > 0] / weight[weight > 0])
    low, high = numpy.quantile(numpy.concatenate(means), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def paired(
    before: Sequence[float], after: Sequence[float], weights: Sequence[float] | None = None, *, draws: int = DRAWS, seed: int = SEED
) -> Interval | None:
    """The bootstrap interval of after - before on the same rows."""
    return bootstrap([late - early for early, late in zip(before, after, strict=True)], weights, draws=draws, seed=seed)
