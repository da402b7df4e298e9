"""A series keeps its points in order, keeps every spike and stays small."""

import math

from tuitune.workbench.series import LIMIT, Series


def series_of(*points: tuple[float, float]) -> Series:
    series = Series()
    for x, y in points:
        series.add(x, y)
    return series


def test_points_that_come_late_are_put_where_they_belong() -> None:
    series = series_of((1, 10), (3, 30), (2, 20))
    assert list(series.xs) == [1, 2, 3]
    assert list(series.ys) == [10, 20, 30]
    assert series.rewrites == 1


def test_a_point_at_the_same_place_replaces_the_older_one() -> None:
    series = series_of((1, 10), (1, 11))
    assert list(series.ys) == [11]
    assert series.rewrites == 1


def test_the_value_at_a_place_is_the_newest_one_up_to_there() -> None:
    series = series_of((1, 10), (3, 30))
    assert [series.at(x) for x in (0, 1, 2, 3, 9)] == [None, 10, 10, 30, 30]


def test_what_lies_beyond_a_place_can_be_forgotten() -> None:
    series = series_of((1, 10), (2, 20), (3, 30))
    series.drop_after(2)
    assert list(series.xs) == [1, 2]
    series.drop_after(5)
    assert series.rewrites == 1


def test_a_million_points_stay_small_and_keep_the_spikes() -> None:
    series = Series()
    for step in range(200_000):
        series.add(step, 1000.0 if step == 77_777 else -1000.0 if step == 5 else math.nan if step == 9 else 1.0)
    assert len(series) <= LIMIT
    assert max(y for y in series.ys if y == y) == 1000.0
    assert min(y for y in series.ys if y == y) == -1000.0
    assert list(series.xs) == sorted(series.xs)
    assert (series.xs[0], series.xs[-1]) == (0, 199_999)
