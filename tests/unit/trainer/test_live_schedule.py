"""The curve of the learning rate as plain data: changed at a step, stretched with the training, the same after a resume."""

import io
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tuitune.trainer.live_schedule import LiveSchedule  # noqa: E402


def falling(step: float) -> float:
    """A straight line from 1 to 0 over ten steps, and up again after it, as a cosine of transformers' does."""
    return abs(10 - step) / 10


@pytest.fixture
def schedule() -> LiveSchedule:
    return LiveSchedule(falling, 10)


def curve(schedule: LiveSchedule, *steps: int) -> Any:
    return pytest.approx([schedule(step) for step in steps])


def test_untouched_it_is_the_plan_and_stays_at_its_end(schedule: LiveSchedule) -> None:
    assert [schedule(step) for step in range(11)] == [falling(step) for step in range(11)]
    assert schedule(15) == 0, "what rises beyond its end is not followed"


def test_a_scaled_curve_passes_through_the_value_and_keeps_its_shape(schedule: LiveSchedule) -> None:
    schedule.scale(4, 0.3)
    assert curve(schedule, 3, 4, 5, 9, 10) == [0.7, 0.3, 0.25, 0.05, 0.0]
    schedule.scale(6, 0.4)
    assert curve(schedule, 5, 6, 7) == [0.25, 0.4, 0.3]


def test_hold_linear_and_cosine(schedule: LiveSchedule) -> None:
    schedule.hold(2, 0.5)
    schedule.descend(4, "linear", 0.5, 0.1, 4, whole=False)
    schedule.descend(8, "cosine", 0.4, 0.0, 2, whole=True)
    assert curve(schedule, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11) == [0.9, 0.5, 0.5, 0.5, 0.4, 0.2, 0.4, 0.2, 0.0, 0.0]


def test_a_line_that_has_reached_its_end_stays_there(schedule: LiveSchedule) -> None:
    schedule.descend(0, "linear", 1.0, 0.2, 4, whole=False)
    schedule.stretch(6, 100)
    assert curve(schedule, 6, 50) == [0.2, 0.2], "it never was to go to the end of the training"


@pytest.mark.parametrize("kind", ["planned", "linear", "cosine"])
def test_what_goes_to_the_end_ends_where_the_training_now_ends(schedule: LiveSchedule, kind: str) -> None:
    if kind != "planned":
        schedule.descend(0, kind, 1.0, 0.0, 10, whole=True)
    before = schedule(5)
    schedule.stretch(5, 20)
    assert [before, 0.0] == curve(schedule, 5, 25)
    assert schedule(15) == pytest.approx(0.25 if kind != "cosine" else (1 + math.cos(math.pi * 0.75)) / 2)
    schedule.stretch(15, 5)
    assert curve(schedule, 20, 30) == [0.0, 0.0]


def test_a_second_change_at_the_same_step_takes_the_place_of_the_first(schedule: LiveSchedule) -> None:
    schedule.hold(3, 0.9)
    schedule.hold(3, 0.1)
    assert schedule(3) == 0.1
    assert len(schedule.segments) == 2


def test_zero_cannot_be_scaled(schedule: LiveSchedule) -> None:
    with pytest.raises(ValueError, match="use kind=hold"):
        schedule.scale(10, 0.5)


def test_a_checkpoint_keeps_it_as_plain_data(schedule: LiveSchedule) -> None:
    """torch saves the attributes of a callable factor; the plan's own function is not among them."""
    from torch.optim.lr_scheduler import LambdaLR

    def made(factor: LiveSchedule) -> Any:
        return LambdaLR(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0), lr_lambda=factor)

    schedule.scale(4, 0.3)
    file = io.BytesIO()
    torch.save(made(schedule).state_dict(), file)
    file.seek(0)
    fresh = LiveSchedule(falling, 10)
    made(fresh).load_state_dict(torch.load(file, weights_only=True))
    assert [fresh(step) for step in range(12)] == [schedule(step) for step in range(12)]
