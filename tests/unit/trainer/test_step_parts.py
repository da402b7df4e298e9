"""How far a GPU lags behind its launches, by events on a stand-in whose clock the test moves."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")


class Card:
    """A GPU that does its queue one after the other. `now`: the processor's clock, `free`: when the queue is empty, in seconds."""

    def __init__(self) -> None:
        self.now = self.free = 100.0

    def launch(self, launching: float, work: float, kernels: int = 10) -> None:
        """Kernels that take the processor `launching` seconds altogether, and the GPU `work`."""
        for _ in range(kernels):
            self.now += launching / kernels
            self.free = max(self.free, self.now) + work / kernels

    def read(self) -> None:
        """The loss, for which the processor waits."""
        self.now = max(self.now, self.free)


class Event:
    card: Card

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = max(self.card.now, self.card.free)

    def query(self) -> bool:
        return self.at <= self.card.now

    def elapsed_time(self, later: "Event") -> float:
        assert later.query(), "asked of work that is not done it raises"
        return 1000 * (later.at - self.at)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    from tuitune.trainer import step_parts

    card = Event.card = Card()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(step_parts, "perf_counter", lambda: card.now)
    return card


def step(card: Card, parts: Any, launching: float, work: float, read: bool = True) -> None:
    """Half a second for the data, two micro-batches, the optimizer, and the loss is read."""
    parts.fetch()
    card.now += 0.5
    parts.fetched()
    for _ in range(2):
        card.launch(launching, work)
        parts.launched()
    card.launch(0.01, 0.01)
    if read:
        card.read()
    parts.step_ended()


def test_a_gpu_that_is_the_bottleneck_is_behind_at_the_end_of_every_micro_batch(card: Card) -> None:
    """The processor launches a micro-batch in 0.1 s, the GPU takes a second: 0.9 s behind after the first, 1.8 s after the second."""
    from tuitune.trainer.step_parts import StepParts

    parts = StepParts()
    for _ in range(3):
        step(card, parts, launching=0.1, work=1.0)
    told = parts.take(tokens=300, places=400)
    assert told is not None
    assert told["gpu_behind_ms"] == pytest.approx(2700, abs=30)
    assert told["data_ms"] == 500
    assert told["wall_ms"] == pytest.approx(2520, abs=30)
    assert (told["steps"], told["padding_share"], told["tokens_computed"]) == (3, 0.25, pytest.approx(400 / 3))


def test_a_gpu_that_waits_for_launches_is_as_good_as_never_behind(card: Card) -> None:
    """It takes 0.1 s for what takes a second to launch: only the last kernel is left."""
    from tuitune.trainer.step_parts import StepParts

    parts = StepParts()
    step(card, parts, launching=1.0, work=0.1)
    told = parts.take(0, 0)
    assert told is not None
    assert told["gpu_behind_ms"] == pytest.approx(20, abs=1)
    assert (told["padding_share"], told["tokens_computed"]) == (None, None)


def test_a_step_whose_work_is_not_done_when_it_is_asked_for_says_nothing(card: Card) -> None:
    """Nothing waits for the GPU only to measure it."""
    from tuitune.trainer.step_parts import StepParts

    parts = StepParts()
    step(card, parts, launching=0.1, work=1.0, read=False)
    told = parts.take(0, 0)
    assert told is not None
    assert told["gpu_behind_ms"] is None


def test_between_two_logs_without_a_step_there_is_nothing_to_tell(card: Card) -> None:
    from tuitune.trainer.step_parts import StepParts

    parts = StepParts()
    assert parts.take(0, 0) is None
    step(card, parts, launching=0.1, work=0.1)
    parts.step_ended()  # the end of an epoch comes to the boundary once more
    told = parts.take(0, 0)
    assert told is not None
    assert told["steps"] == 1
    assert parts.take(0, 0) is None
