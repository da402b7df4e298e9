"""Lengths of the data in the plan: sums of the longest sequences, how changes of length and batch go on from them."""

from dataclasses import replace
from random import Random

import pytest

from tests.support.model_shapes import CONFIGS
from tuitune.dataset.lengths import COUNTS
from tuitune.memory.families import read_shape
from tuitune.memory.plan import plan
from tuitune.memory.settings import Device, Settings, together

SHAPE = read_shape(CONFIGS["qwen2.5-1.5b"])
ROWS = sorted((Random(1).choice((1, 1, 9)) * Random(number).randrange(1, 200) for number in range(3000)), reverse=True)
SUMS = tuple(sum(ROWS[:count]) for count in COUNTS)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 8, 12, 100, 999, 2999, 3000, 4000, 4096, 6000])
def test_so_many_rows_are_never_longer_together_than_is_said(count: int) -> None:
    said, true = together(SUMS, count), sum(ROWS[:count])
    assert said >= true
    assert said <= 1.1 * true
    if count in COUNTS:
        assert said == true


def test_packed_rows_take_what_they_are_and_padded_ones_what_the_longest_is() -> None:
    packed = Settings(length=ROWS[0], batch=8, packed=True, sums=SUMS)
    assert packed.tokens == packed.row_tokens == sum(ROWS[:8])
    assert replace(packed, packed=False).tokens == 8 * ROWS[0]
    assert replace(packed, batch=1).tokens == ROWS[0]


def test_a_shorter_length_cuts_the_rows_and_a_larger_one_is_planned_full() -> None:
    packed = Settings(length=ROWS[0], batch=8, packed=True, sums=SUMS)
    assert replace(packed, length=64).tokens == 8 * 64
    assert replace(packed, length=ROWS[0] + 1).tokens == 8 * (ROWS[0] + 1)


@pytest.mark.parametrize(("length", "evaluated"), [(300, 2048), (256, 256), (512, 2048), (4096, 4096)])
def test_evaluation_rows_have_their_own_length_until_max_length_is_changed(length: int, evaluated: int) -> None:
    sums = tuple(300 * count for count in COUNTS)
    assert Settings(length=length, batch=4, eval_batch=4, eval_length=2048, sums=sums).evaluated_length == evaluated


def test_a_long_evaluation_row_is_in_the_plan_of_short_training_rows() -> None:
    short = Settings(length=128, batch=2, eval_batch=2, eval_length=128, sums=tuple(128 * count for count in COUNTS))
    long = replace(short, eval_length=8192)
    assert plan(SHAPE, short, Device()).peak != "evaluation"
    assert plan(SHAPE, long, Device()).peak == "evaluation"
