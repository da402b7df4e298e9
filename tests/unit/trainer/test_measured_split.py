"""Which of the measured splits is taken. Made-up seconds."""

import pytest

from tuitune.recipe.update_rows import ACCUMULATION, BATCH
from tuitune.trainer.box import FillIn
from tuitune.update_split import AGAIN, AGAIN_KWARGS

measured_split = pytest.importorskip("tuitune.trainer.measured_split")


def candidate(batch: int, *passes: float, too_large: bool = False, again: int = 0) -> "measured_split.Candidate":
    values = {BATCH: FillIn(batch, ""), ACCUMULATION: FillIn(16 // batch, ""), AGAIN: FillIn(bool(again), "")}
    if again > 1:
        values[AGAIN_KWARGS] = FillIn({"every_n_layers": again}, "")
    return measured_split.Candidate(values, list(passes), too_large=too_large)


@pytest.mark.parametrize(
    ("candidates", "batch"),
    [
        ([candidate(16, 1.0), candidate(8, 0.9)], 8),
        ([candidate(16, 1.0), candidate(8, 0.98)], 16),  # chance
        ([candidate(16, 1.0), candidate(8, 0.9), candidate(4, 2.0, 0.8)], 4),  # its quickest pass counts
        ([candidate(16, 1.0), candidate(8), candidate(4, too_large=True)], 16),
        ([candidate(16), candidate(8, 0.1)], 16),  # not measured: nothing says that 8 is faster
        ([candidate(16, too_large=True), candidate(8, 0.9), candidate(4, 0.8)], 4),
        ([candidate(16, too_large=True), candidate(8, too_large=True), candidate(4)], 4),
        ([candidate(16, too_large=True), candidate(8, too_large=True)], 16),
    ],
)
def test_the_plans_choice_stays_unless_another_was_measured_to_be_faster(candidates: list, batch: int) -> None:
    assert measured_split.choose(candidates).batch == batch


def test_a_split_is_said_as_it_is_done() -> None:
    assert str(candidate(4)) == "4 × 4 rows"
    assert str(candidate(1)) == "16 × 1 row"
    assert str(candidate(16, again=1)) == "1 × 16 rows, all layers computed again"
    assert str(candidate(16, again=4)) == "1 × 16 rows, 1 layer in 4 computed again"
