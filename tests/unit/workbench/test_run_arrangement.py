"""Which charts are on screen at which size."""

from itertools import product

from tuitune.workbench.views.run.arrangement import CHARTS, LOSS, MEMORY, NAMES, TABLE, arrange


def test_a_small_place_shows_one_chart() -> None:
    assert arrange(50, 16).charts == (LOSS,)
    assert arrange(140, 12).charts == (LOSS,)


def test_the_active_chart_is_the_one_that_is_shown_alone() -> None:
    assert arrange(140, 40, "grad_norm", maximised=True).charts == ("grad_norm",)


def test_memory_alone_brings_its_table_where_there_is_room() -> None:
    assert [name for name, _ in arrange(60, 14, MEMORY, maximised=True).cells] == [MEMORY, TABLE]
    assert [name for name, _ in arrange(60, 10, MEMORY, maximised=True).cells] == [MEMORY]


def test_a_large_place_shows_everything() -> None:
    assert arrange(140, 40).charts == CHARTS
    assert TABLE in dict(arrange(140, 40).cells)


def test_every_arrangement_fills_whole_rows_in_the_fixed_order() -> None:
    for width, height in product(range(20, 220, 7), range(5, 60, 4)):
        arrangement = arrange(width, height)
        names = [name for name, _ in arrangement.cells]
        assert names == sorted(names, key=NAMES.index), (width, height)
        assert sum(span for _, span in arrangement.cells) == arrangement.columns * len(arrangement.rows), (width, height)
