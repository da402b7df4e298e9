"""Paints come twice a second, slower while the line is blocked, and fast again when it is free."""

import pytest

from tuitune.workbench.views.run import pace
from tuitune.workbench.views.run.pace import FAST, SLOW, Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(pace, "monotonic", lambda: now[0])
    return now


def paint(one: Pace, clock: list[float], seconds: float) -> None:
    started = one.painted()
    clock[0] += seconds
    one.took(started)


def test_the_first_paint_is_at_once_and_the_next_half_a_second_later(clock: list[float]) -> None:
    one = Pace()
    assert one.wait() <= 0
    paint(one, clock, 0.01)
    assert one.wait() == pytest.approx(FAST - 0.01)


def test_a_blocked_line_slows_down_and_a_free_one_speeds_up_again(clock: list[float]) -> None:
    one = Pace()
    paint(one, clock, 1.0)
    assert one.period == SLOW
    for _ in range(4):
        paint(one, clock, 0.01)
        assert one.period == SLOW, "one good paint is not a good line"
    paint(one, clock, 0.01)
    assert one.period == FAST
