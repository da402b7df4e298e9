"""Paints come twice a second, slower while the line is slow, and fast again when it is free."""

import pytest

from tuitune.workbench import pace
from tuitune.workbench.pace import FAST, SLOW, Link, Pace


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


def until_next(one: Pace, clock: list[float], seconds: float) -> float:
    """Seconds from the start of a paint that takes `seconds` to the start of the next."""
    paint(one, clock, seconds)
    return one.wait() + seconds


def test_a_blocked_line_slows_down_and_a_free_one_speeds_up_again(clock: list[float]) -> None:
    one = Pace()
    assert until_next(one, clock, 1.0) == pytest.approx(SLOW)
    for _ in range(4):
        assert until_next(one, clock, 0.01) == pytest.approx(SLOW), "one good paint is not a good line"
    assert until_next(one, clock, 0.01) == pytest.approx(FAST)


def test_one_blocked_part_slows_all_that_share_the_line(clock: list[float]) -> None:
    link = Link()
    one, other = Pace(link), Pace(link)
    paint(one, clock, 1.0)
    assert until_next(other, clock, 0.01) == pytest.approx(SLOW)


def test_a_line_that_the_user_calls_slow_stays_slow(clock: list[float]) -> None:
    one = Pace(Link("slow"))
    assert [until_next(one, clock, 0.01) for _ in range(8)] == pytest.approx([SLOW] * 8)
