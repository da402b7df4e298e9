"""A chart as lines of text: axis, marks, window, cursor, scale and smoothing."""

import math

from tuitune.workbench.series import Series
from tuitune.workbench.views.run.axis import Mark
from tuitune.workbench.views.run.plot import Figure, Look, Memo, PlotLine, Smooth, Window, plot


def falling(points: int = 60) -> Series:
    series = Series()
    for step in range(1, points + 1):
        series.add(step, 0.5 + 2 * math.exp(-step / 10))
    return series


def figure(*series: Series, **options: object) -> Figure:
    lines = [PlotLine(f"line {index}", "one", one, dotted=index > 0) for index, one in enumerate(series)]
    return Figure("loss", lines, place=lambda x: f"{x:.0f}", **options)  # type: ignore[arg-type]


def text_of(chart: Figure, window: Window | None = None, width: int = 60, height: int = 10, look: Look | None = None) -> list[str]:
    lines = ["".join(text for text, _ in line) for line in plot(chart, window or Window(), width, height, look or Look())]
    assert len(lines) == height
    assert all(len(line) <= width for line in lines[1:])
    return lines


def test_title_newest_value_axis_and_marks_are_there() -> None:
    lines = text_of(figure(falling(), limit=60, marks=[Mark(20, "eval"), Mark(30, "checkpoint")]))
    assert "loss" in lines[0]
    assert "0.505" in lines[0]
    assert lines[-1].strip().startswith("└0 ")
    assert lines[-1].endswith(" 60")
    assert lines[-1].index("◇") < lines[-1].index("◆")


def test_two_lines_are_told_apart_without_colours() -> None:
    assert {"━", "┅"} <= set(text_of(figure(falling(), falling(9)))[0])


def test_without_points_a_sentence_stands_in_the_middle() -> None:
    assert "no loss yet" in "\n".join(text_of(figure(Series(), empty="no loss yet")))


def test_only_values_that_are_no_numbers_are_like_no_points() -> None:
    series = Series()
    series.add(1, math.nan)
    assert "nothing yet" in "\n".join(text_of(figure(series)))


def test_while_a_run_grows_the_axis_moves_in_strides() -> None:
    bounds = {Window().bounds(figure(falling(points), limit=1000)) for points in range(20, 200)}
    assert len(bounds) < 14
    assert all(left == 0 for left, _ in bounds)


def test_the_axis_never_goes_past_the_last_step_the_run_will_take() -> None:
    assert Window().bounds(figure(falling(59), limit=60)) == (0, 60)


def test_zooming_follows_the_newest_point_until_there_is_a_cursor() -> None:
    window, chart = Window(), figure(falling(), limit=60)
    window.zoom(chart, 0.5)
    left, right = window.bounds(chart)
    assert right - left == 30
    assert right >= 60
    window.fit()
    window.cursor = 10
    window.zoom(chart, 0.5)
    left, right = window.bounds(chart)
    assert left <= 10 <= right < 60
    window.zoom(chart, 8)
    assert window.bounds(chart) == (0, 60)


def test_the_cursor_stops_at_points_and_the_window_follows_it() -> None:
    series = Series()
    for step in (10, 20, 30, 40):
        series.add(step, step / 10)
    window, chart = Window(), figure(series)
    window.move(chart, -1, 50)
    assert window.cursor == 40
    for expected in (30, 20, 10, 10):
        window.move(chart, -1, 50)
        assert window.cursor == expected
    window.move(chart, 1, 50)
    assert window.cursor == 20
    assert "at step 20" in text_of(chart, window)[0]
    assert "━ line 0 2" in text_of(chart, window)[0]
    window.span = 8
    window.move(chart, 1, 50)
    left, right = window.bounds(chart)
    assert left <= 30 <= right


def test_a_logarithmic_scale_leaves_out_what_has_no_logarithm() -> None:
    series = Series()
    for step, value in enumerate((100.0, 10.0, 0.0, -5.0, 1.0)):
        series.add(step, value)
    lines = text_of(figure(series), look=Look(log=True))
    assert "100" in lines[1]
    assert any("log" in line for line in lines)
    flat = Series()
    flat.add(1, -1.0)
    assert text_of(figure(flat), look=Look(log=True)), "all below zero: drawn linear"


def test_smoothing_shows_both_the_points_and_the_line_and_is_kept_up_point_by_point() -> None:
    series, memo = falling(), Memo()
    roles = {role for line in plot(figure(series), Window(), 60, 10, Look(weight=0.9), memo) for _, role in line}
    assert {"one", "rest"} <= roles
    series.add(61, 3.0)
    plot(figure(series), Window(), 60, 10, Look(weight=0.9), memo)
    assert list(memo.smooths[id(series)].ys) == list(Smooth(0.9).of(series))


def test_smoothing_starts_at_the_first_value_and_passes_over_what_is_no_number() -> None:
    series = Series()
    for step, value in enumerate((4.0, math.nan, 4.0, 4.0)):
        series.add(step, value)
    assert [round(value, 9) for value in Smooth(0.9).of(series)] == [4.0] * 4
    series.drop_after(1)
    assert len(Smooth(0.9).of(series)) == 2


def test_the_heading_keeps_every_value_when_the_chart_is_narrow() -> None:
    """At 120 columns a memory chart has some 36 cells: short words, then no blanks, never a value cut away."""
    lines = [PlotLine("device", "two", falling(), short="dev"), PlotLine("allocated", "one", falling(), dotted=True, short="alloc")]
    chart = Figure("memory GiB", lines, short="GiB")
    assert text_of(chart, width=60)[0].startswith("  memory GiB  ━ device 0.505")
    assert text_of(chart, width=40)[0].startswith("  GiB  ━ dev 0.505")
    assert "┅ alloc 0.5" in text_of(chart, width=40)[0]
    assert text_of(chart, width=31)[0].startswith("  GiB ━dev 0.505")
    assert "┅alloc 0.5" in text_of(chart, width=31)[0]


def test_the_words_of_the_marks_under_the_cursor_stand_in_the_place_of_the_axis() -> None:
    marks = [Mark(20, "eval", "evaluated"), Mark(20, "applied", "learning_rate 2 → 1 by ada"), Mark(30, "checkpoint", "saved")]
    window = Window(cursor=20.0)
    under = text_of(figure(falling(), limit=60, marks=marks), window=window)[-1]
    assert "» 20 learning_rate 2 → 1 by ada · ◇ 20 evaluated" in under, "what is rare comes first"
    window.cursor = 25.0
    assert "◆" in text_of(figure(falling(), limit=60, marks=marks), window=window)[-1]


def test_where_one_attempt_ends_and_the_next_begins_a_thin_line_goes_through_the_chart() -> None:
    lines = text_of(figure(falling(), limit=60, marks=[Mark(30, "seam", "attempt 2 from step 30")]))
    assert sum("┊" in line for line in lines) >= 3
    assert "↻" in lines[-1]
