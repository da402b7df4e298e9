"""Charts of dots: every spike is seen, whatever the number of points, and axes stay still."""

import math

import pytest

from tuitune.workbench.series import Series
from tuitune.workbench.views.run.braille import Bucket, Canvas, Columns, buckets, nice_range, nice_top, value_range


def series_of(values: list[float]) -> Series:
    series = Series()
    for x, y in enumerate(values):
        series.add(x, y)
    return series


def drawn(values: list[float], width: int = 4, height: int = 1, *, dotted: bool = False) -> list[str]:
    series, canvas = series_of(values), Canvas(width, height)
    columns = buckets(series.xs, series.ys, 0, len(values) - 1, 2 * width)
    low, high = value_range([(series.xs, series.ys)], 0, len(values)) or (0, 1)
    canvas.draw(columns, low, high, "one", dotted=dotted)
    return ["".join(text for text, _ in canvas.line(y)) for y in range(height)]


def test_a_rising_line_rises() -> None:
    assert drawn([0, 1, 2, 3, 4, 5, 6, 7]) == ["⣀⠤⠒⠉"]


def test_a_flat_line_is_one_row_of_dots() -> None:
    assert drawn([5, 5, 5, 5, 5, 5, 5, 5]) == ["⠉⠉⠉⠉"]


def test_points_far_apart_are_joined() -> None:
    series, canvas = Series(), Canvas(8, 1)
    series.add(0, 0)
    series.add(15, 3)
    canvas.draw(buckets(series.xs, series.ys, 0, 15, 16), 0, 3, "one")
    text = canvas.line(0)[0][0]
    assert " " not in text
    assert "⠀" not in text


def test_one_point_is_one_dot() -> None:
    series, canvas = series_of([3]), Canvas(2, 1)
    canvas.draw(buckets(series.xs, series.ys, 0, 1, 4), 0, 3, "one")
    assert canvas.line(0) == (("⠁ ", "one"),)


def test_a_single_spike_among_many_points_reaches_the_top() -> None:
    values = [1.0] * 10_000
    values[4321] = 9.0
    series = series_of(values)
    columns = buckets(series.xs, series.ys, 0, 9999, 40)
    assert max(bucket.high for bucket in columns if bucket) == 9.0
    assert sum(bucket is not None for bucket in columns) == 40


def test_values_that_are_no_numbers_leave_a_gap_and_break_nothing() -> None:
    series = series_of([1, math.nan, 3, math.inf, -math.inf, 6])
    columns = buckets(series.xs, series.ys, 0, 5, 3)
    assert columns == [Bucket(1, 1, 1, 1), Bucket(3, 3, 3, 3), Bucket(6, 6, 6, 6)]
    assert buckets(series.xs, series.ys, 1, 1, 1) == [None]
    assert value_range([(series.xs, series.ys)], 0, 5) == (1, 6)
    assert value_range([(series.xs, series.ys)], 3, 4) is None


def test_columns_that_are_kept_equal_those_made_anew_while_points_come_in() -> None:
    series, kept = Series(), Columns()
    for x in range(300):
        series.add(x, math.sin(x / 9) if x % 17 else math.nan)
        right = 120.0 if x < 100 else 400.0
        assert kept.of(series.xs, series.ys, series.rewrites, 0, right, 50) == buckets(series.xs, series.ys, 0, right, 50)
    series.add(7, 99.0)
    assert kept.of(series.xs, series.ys, series.rewrites, 0, 400, 50) == buckets(series.xs, series.ys, 0, 400, 50)


def test_only_the_window_is_drawn() -> None:
    series = series_of([float(x) for x in range(100)])
    columns = buckets(series.xs, series.ys, 10, 19, 10)
    assert [bucket.low for bucket in columns if bucket] == [float(x) for x in range(10, 20)]


def test_the_cursor_goes_through_empty_cells_as_a_bar() -> None:
    canvas = Canvas(3, 1)
    assert canvas.line(0, cursor=1) == ((" ", ""), ("│ ", "warn"))


def test_bounds_are_round_and_hold_the_values() -> None:
    assert nice_range(0.61, 2.49) == (pytest.approx(0.6), pytest.approx(2.6))
    for low, high in ((0.61, 2.49), (-3, 7), (5, 5), (0, 0), (1e-9, 2e-9), (1e12, 3e12)):
        bottom, top = nice_range(low, high)
        assert bottom <= low <= high <= top
        assert bottom < top
    assert nice_range(0.0, 3.0)[0] == 0.0


def test_an_axis_grows_in_strides() -> None:
    assert [nice_top(x) for x in (7, 11, 100, 101, 412, 0)] == [8, 12, 100, 120, 500, 1]
    assert len({nice_top(x) for x in range(1, 1001)}) < 40
