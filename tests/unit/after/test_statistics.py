"""Intervals, against values that others have published or that can be counted by hand."""

import math
import random

import pytest

from tuitune.after.statistics import bootstrap, paired, ratio, wilson


def test_wilson_gives_the_published_intervals() -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        interval = wilson(successes, trials)
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_stays_inside_0_to_1_and_says_nothing_of_nothing() -> None:
    zero, all_right = wilson(0, 5), wilson(5, 5)
    assert zero is not None
    assert all_right is not None
    assert (zero.low, all_right.high) == (0.0, 1.0)
    assert zero.high == pytest.approx(1 - all_right.low)
    assert wilson(0, 0) is None


def test_a_bootstrap_of_a_mean_agrees_with_the_normal_interval_where_that_holds() -> None:
    """400 draws from a normal distribution: mean ± 1.96 s/√n within a few per cent of the width."""
    generator = random.Random(5)
    values = [generator.gauss(1.0, 2.0) for _ in range(400)]
    mean = sum(values) / 400
    half = 1.96 * math.sqrt(sum((value - mean) ** 2 for value in values) / 399) / 20
    interval = bootstrap(values)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((mean - half, mean + half), abs=0.06 * half)


def test_of_two_rows_the_interval_is_their_range() -> None:
    """Two of four draws are a row twice, each with a chance of 1/4: more than the 2.5 % at either end."""
    interval = bootstrap([1.0, 3.0])
    assert interval is not None
    assert interval.as_list() == [1.0, 3.0]


def test_the_pairs_take_out_what_makes_a_row_hard_for_both() -> None:
    generator = random.Random(3)
    before = [generator.uniform(0, 10) for _ in range(50)]
    after = [value - 0.5 + generator.uniform(-0.1, 0.1) for value in before]
    interval, alone = paired(before, after), bootstrap(before)
    assert interval is not None
    assert alone is not None
    assert -0.55 < interval.low < -0.5 < interval.high < -0.45
    assert interval.without_zero()
    assert interval.high - interval.low < (alone.high - alone.low) / 20


def test_weights_make_it_an_interval_of_nats_a_token() -> None:
    """A row of one token cannot move what a hundred rows of a hundred tokens say."""
    interval = bootstrap([100.0] * 100 + [50.0], [100.0] * 100 + [1.0])
    assert interval is not None
    assert ratio([100.0] * 100 + [50.0], [100.0] * 100 + [1.0]) == pytest.approx(1.0, abs=0.01)
    assert 1.0 <= interval.low <= interval.high < 1.02


def test_it_is_the_same_every_time_and_another_seed_is_another_draw() -> None:
    values = [float(number % 7) for number in range(30)]
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values, seed=1) != bootstrap(values)


def test_one_row_says_nothing_of_how_rows_differ() -> None:
    assert bootstrap([1.0]) is None
    assert paired([], []) is None


def test_many_rows_are_drawn_in_pieces_that_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [float(number % 11) for number in range(500)]
    whole = bootstrap(values, draws=400)
    monkeypatch.setattr("tuitune.after.statistics._AT_ONCE", 1000)
    assert bootstrap(values, draws=400) == whole
