"""When a trainer counts as hung: two clocks, a limit of its own for every phase, and what can be said about the cause."""

import os
import signal
from collections.abc import Callable

import pytest

from tests.support.living_hub import LivingHub, until
from tuitune.bus.client import HubClient
from tuitune.hub.hang import FLOOR_S, LIMITS_S, HangWatch
from tuitune.runs.manifest import read_manifest

Start = Callable[..., LivingHub]


class Clock:
    """A trainer that is watched: what it tells, second by second."""

    def __init__(self, step_ms: float | None = 500.0, phase: str = "running") -> None:
        self.watch, self.now, self.step, self.age = HangWatch(), 1000.0, 1, 0.0
        self.phase = phase
        self.watch.take({"ev": "state", "s": phase}, self.now)
        if step_ms is not None:
            self.watch.take({"ev": "metrics", "step": 1, "step_ms": step_ms}, self.now)

    def beat(self, seconds: int) -> None:
        """A heartbeat a second, and no step."""
        for _ in range(seconds):
            self.now, self.age = self.now + 1, self.age + 1
            self.watch.take({"ev": "hb", "step": self.step, "phase": self.phase, "since_boundary_s": self.age}, self.now)

    def silence(self, seconds: float) -> None:
        self.now += seconds

    def moves(self) -> None:
        self.step, self.age = self.step + 1, 0.0
        self.beat(1)

    def says(self, letter: str = "S") -> str | None:
        return self.watch.hangs(self.now, letter)


def test_a_step_may_always_take_a_minute() -> None:
    clock = Clock()
    clock.beat(59)
    assert clock.says() is None
    clock.beat(2)
    assert "no step for 61 s (a step takes 0.5 s)" in str(clock.says())


def test_slow_steps_may_take_ten_times_their_median() -> None:
    clock = Clock(step_ms=30_000)
    clock.beat(290)
    assert clock.says() is None
    clock.beat(20)
    assert clock.says()


def test_the_first_step_has_ten_minutes() -> None:
    clock = Clock(step_ms=None)
    clock.beat(500)
    assert clock.says() is None
    clock.beat(110)
    assert clock.says()


@pytest.mark.parametrize(
    ("beats", "silent", "letter", "words"),
    [
        (70, 0, "S", "its heartbeat goes on, so one call does not return (CUDA, NCCL or storage)"),
        (5, 70, "R", "its heartbeat is silent too: one call holds the whole interpreter"),
        (5, 70, "T", "it was stopped by a signal (kill -CONT"),
        (5, 70, "D", "it waits in the kernel, for a disk or a driver"),
    ],
)
def test_the_two_clocks_and_the_kernel_tell_the_cause(beats: int, silent: float, letter: str, words: str) -> None:
    clock = Clock()
    clock.beat(beats)
    clock.silence(silent)
    assert words in str(clock.says(letter))


@pytest.mark.parametrize("phase", sorted(LIMITS_S))
def test_loading_evaluating_and_saving_have_limits_of_their_own(phase: str) -> None:
    clock = Clock(phase=phase)
    clock.beat(600)
    assert clock.says() is None
    clock.silence(LIMITS_S[phase])
    assert f"still {phase}, and nothing has moved" in str(clock.says())


def test_a_process_that_was_stopped_is_told_after_a_minute_in_every_phase() -> None:
    clock = Clock(phase="evaluating")
    clock.silence(FLOOR_S + 1)
    assert clock.says() is None
    assert clock.says("T")


@pytest.mark.parametrize("phase", ["paused", "suspended", "done", "stopped", "a phase of a later version"])
def test_waiting_that_is_meant_is_no_hang(phase: str) -> None:
    clock = Clock(phase=phase)
    clock.silence(1e6)
    assert clock.says() is None
    assert clock.says("T") is None


def test_a_long_evaluation_does_not_count_for_the_step_after_it() -> None:
    """The boundary is old when the state is running again: what counts is when that began."""
    clock = Clock(phase="evaluating")
    clock.beat(500)
    clock.phase = "running"
    clock.beat(30)
    assert clock.says() is None


def test_an_evaluation_may_take_three_times_as_long_as_the_longest_before_it() -> None:
    clock = Clock(phase="evaluating")
    clock.silence(5000)
    clock.phase = "running"
    clock.beat(1)
    clock.phase = "evaluating"
    clock.beat(1)
    clock.silence(14_000)
    assert clock.says() is None
    clock.silence(2_000)
    assert clock.says()


def test_it_moves_again() -> None:
    clock = Clock()
    clock.beat(100)
    assert clock.says()
    clock.moves()
    assert clock.says() is None


def test_records_of_any_shape_are_taken() -> None:
    watch = HangWatch()
    for record in (
        {"ev": "hb"},
        {"ev": "hb", "since_boundary_s": "nan", "step": "x"},
        {"ev": "metrics", "step_ms": None},
        {"ev": "state"},
        {},
    ):
        watch.take(record, 1.0)
    assert watch.hangs(2.0) is None


# --- in the hub -------------------------------------------------------------------------------------------------------------------


def states(hub: LivingHub) -> list[tuple[str, str]]:
    return [(record["s"], record.get("why") or "") for record in hub.records("state") if record["src"] == "hub"]


def test_a_stuck_step_is_told_with_its_stacks_and_what_can_be_done_and_is_over_when_it_moves(hub: Start) -> None:
    one = hub("stuck", environment={"STORY_HANG_S": "1"})
    why = until(lambda: next((why for state, why in states(one) if state == "hung"), None))
    until(lambda: read_manifest(one.run).state == "hung")
    assert "its heartbeat goes on" in why
    assert f"(the stacks are in {one.run.log / '1.rank0.txt'})" in why
    assert f"tuitune send {one.run.name} kill" in why
    assert f"tuitune resume {one.run.name}" in why
    until(lambda: any("in misbehave" in record["text"] for record in one.records("log")))
    (one.run.path / "go-on").touch()
    until(lambda: read_manifest(one.run).state == "running")
    assert ("running", "it moves again") in states(one)
    assert one.process.poll() is None


def test_a_stopped_process_is_told_as_that_and_gets_no_second_signal(hub: Start) -> None:
    one = hub("long", environment={"STORY_HANG_S": "1"})
    until(one.running)
    os.kill(one.trainer_pid, signal.SIGSTOP)
    why = until(lambda: next((why for state, why in states(one) if state == "hung"), None))
    assert "it was stopped by a signal" in why
    os.kill(one.trainer_pid, signal.SIGCONT)
    until(lambda: read_manifest(one.run).state == "running")
    assert not any("most recent call first" in record["text"] for record in one.records("log"))


def test_a_hung_trainer_can_be_killed(hub: Start) -> None:
    one = hub("stuck", environment={"STORY_HANG_S": "1"})
    until(lambda: read_manifest(one.run).state == "hung")
    assert HubClient(one.run.path).send("kill")["s"] == "applied"
    assert one.process.wait(20) == 1
    assert read_manifest(one.run).state == "failed"


def test_stacks_are_written_into_the_log_on_demand(hub: Start) -> None:
    one = hub("long")
    until(one.running)
    reply = HubClient(one.run.path).send("stacks")
    assert (reply["s"], reply["note"]) == ("applied", f"the stacks are in {one.run.log / '1.rank0.txt'}")
    until(lambda: any("most recent call first" in record["text"] for record in one.records("log")))
    step = read_manifest(one.run).step or 0
    until(lambda: (read_manifest(one.run).step or 0) > step)


def test_stacks_of_a_trainer_that_does_not_listen_yet_are_refused_instead_of_killing_it(hub: Start) -> None:
    one = hub("early")
    until(lambda: one.records("log"))
    reply = HubClient(one.run.path).send("stacks")
    assert (reply["s"], reply["error"]) == ("failed", "the trainer has not come so far that it could write its stacks")
    assert one.process.poll() is None
