"""The terminal's answers tell whether the line is slow; it is asked behind a paint, and an idle workbench sends nothing."""

import asyncio

import pytest

from tuitune.workbench.pace import Link
from tuitune.workbench.terminal import round_trip
from tuitune.workbench.terminal.round_trip import AGAIN, LOST, PERIOD, QUESTION, TRIES, RoundTrip


class Line:
    """A clock, what was sent to the terminal, and the round trips over it."""

    def __init__(self, pinned: str = "auto") -> None:
        self.now = 100.0
        self.sent: list[str] = []
        self.told: list[str] = []
        self.link = Link(pinned)
        self.trips = RoundTrip(self.link, self.sent.append)
        self.link.painted = self.trips.painted
        self.link.changed = lambda: self.told.append(self.link.words)

    def paint(self, after: float = 0.0) -> None:
        """A live part paints, so many seconds later."""
        self.now += after
        self.link.took(0.01)

    def answer(self, after: float) -> None:
        self.now += after
        self.trips.answered(self.now)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    found = Line()
    monkeypatch.setattr(round_trip, "monotonic", lambda: found.now)
    return found


def test_without_a_paint_nothing_is_sent(line: Line) -> None:
    line.now += 1000
    assert line.sent == []
    line.paint()
    assert line.sent == [QUESTION]


def test_two_late_answers_make_a_slow_line_and_two_quick_ones_a_good_one(line: Line) -> None:
    line.paint()
    line.answer(0.3)
    assert not line.link.slow, "one late answer may be a busy moment"
    line.paint(AGAIN)
    line.answer(0.25)
    assert line.link.slow
    assert line.link.words == "slow line (250 ms)"
    line.paint(PERIOD)
    line.answer(0.05)
    assert line.link.slow
    line.paint(AGAIN)
    line.answer(0.05)
    assert not line.link.slow
    assert line.told == ["slow line (250 ms)", "slow line (50 ms)", ""]


def test_between_the_two_limits_it_stays_what_it_is(line: Line) -> None:
    for _ in range(3):
        line.paint(PERIOD)
        line.answer(0.18)
    assert not line.link.slow
    for seconds in (0.3, 0.3, 0.18, 0.18, 0.18):
        line.paint(PERIOD)
        line.answer(seconds)
    assert line.link.slow


def test_it_is_asked_every_ten_seconds_and_at_once_again_where_the_answers_differ(line: Line) -> None:
    for after in (0.0, AGAIN):
        line.paint(after)
        line.answer(0.02)
    assert len(line.sent) == 2
    for _ in range(int(PERIOD / 0.5) - 1):
        line.paint(0.5)
    assert len(line.sent) == 2
    line.paint(0.5)
    assert len(line.sent) == 3
    line.answer(0.5)
    line.paint(AGAIN)
    assert len(line.sent) == 4


def test_a_line_that_stands_still_is_slow_before_its_answer_comes(line: Line) -> None:
    line.paint()
    line.answer(0.02)
    line.paint(AGAIN)
    line.paint(0.5)
    line.paint(0.5)
    assert line.link.slow
    assert len(line.sent) == 2, "one question at a time"
    line.answer(4.0)
    assert line.link.words == "slow line (5000 ms)"


def test_a_terminal_that_never_answers_is_asked_three_times_and_nothing_is_concluded(line: Line) -> None:
    for _ in range(10):
        line.paint(LOST)
    assert len(line.sent) == TRIES
    assert not line.link.slow


def test_an_answer_that_nobody_asked_for_counts_for_nothing(line: Line) -> None:
    for _ in range(5):
        line.answer(1.0)
    assert not line.link.slow
    assert not line.link.settled


@pytest.mark.parametrize("pinned", ["slow", "fast"])
def test_what_the_user_calls_the_line_holds_and_nothing_is_asked(pinned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(pinned)
    monkeypatch.setattr(round_trip, "monotonic", lambda: line.now)
    line.paint()
    line.link.took(5.0)
    assert line.sent == []
    assert line.link.slow == (pinned == "slow")
    assert line.link.words == ("slow line (set)" if pinned == "slow" else "")


async def test_leaving_waits_for_an_answer_on_its_way(line: Line) -> None:
    line.paint()
    line.answer(0.02)
    line.paint(AGAIN)
    leaving = asyncio.create_task(line.trips.settle())
    await asyncio.sleep(0.05)
    assert not leaving.done(), "it would be typed into the shell"
    line.answer(0.3)
    await asyncio.wait_for(leaving, 60)
