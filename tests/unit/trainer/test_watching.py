"""Alarms: silent on real runs and on noise, loud where a run goes wrong, once until it is over, each with what could be done."""

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tuitune.trainer.watching import Alarm, Log, NotFinite, Stall, Watching, noise

RECORDED = Path(__file__).parents[2] / "support" / "recorded"
CURVES = {
    "gsm8k, QLoRA on an H200": RECORDED / "gsm8k-qlora-20261124-132627" / "journal" / "trainer-1.jsonl",
    "the demo": RECORDED / "curves" / "demo.jsonl",
    "DPO of a real model, pair by pair": RECORDED / "curves" / "dpo-smollm2.jsonl",
    "DPO of a random model, pair by pair": RECORDED / "curves" / "dpo-pair-by-pair.jsonl",
}


def read(path: Path) -> list[Log]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [Log(one["step"], one["loss"], one["grad_norm"], one["learning_rate"]) for one in records if "loss" in one]


def watch(logs: Sequence[Log], **options: bool) -> list[Alarm]:
    """All alarms of a run whose every step is logged."""
    watching = Watching(**options)
    return [alarm for log in logs for alarm in (*watching.step(log, 1.0), *watching.log(log))]


def cosine(count: int) -> list[float]:
    return [2e-4 * min(1.0, 20 * (step + 1) / count) * (1 + math.cos(math.pi * step / count)) / 2 for step in range(count)]


def falling(seed: int, count: int, spread: float, kind: str = "gauss") -> list[Log]:
    """A training loss as they are: steep, then slowly on; normal, skewed or with a hard batch now and then."""
    dice = random.Random(seed)
    beside: dict[str, Callable[[], float]] = {
        "gauss": lambda: dice.gauss(0, spread),
        "skewed": lambda: spread * (dice.expovariate(1) - 1),
        "hard batches": lambda: dice.gauss(0, spread) + (dice.random() < 0.03) * dice.uniform(0, 3),
    }
    rates = cosine(count)
    return [
        Log(
            step + 1,
            0.7 + 2 * math.exp(-20 * step / count) + 0.3 * (1 - step / count) + beside[kind](),
            math.exp(dice.gauss(0, 0.4)),
            rates[step],
        )
        for step in range(count)
    ]


def raised(logs: list[Log], start: int, slope: float) -> list[Log]:
    """The same curve, climbing from a place on."""
    return [
        log
        if place < start
        else Log(log.step, log.loss + min(3.0, slope * (place - start)), log.grad_norm, log.learning_rate, "checkpoint-90")
        for place, log in enumerate(logs)
    ]


@pytest.mark.parametrize("name", CURVES)
def test_a_real_run_that_went_well_raises_no_alarm(name: str) -> None:
    logs = read(CURVES[name])
    assert len(logs) >= 40
    assert watch(logs) == []


@pytest.mark.parametrize("kind", ["gauss", "skewed", "hard batches"])
@pytest.mark.parametrize("spread", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("count", [60, 300, 900])
def test_noise_raises_no_alarm(kind: str, spread: float, count: int) -> None:
    assert [watch(falling(seed, count, spread, kind)) for seed in range(4)] == [[]] * 4


class TestNotFinite:
    """What no training comes back from."""

    @pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)])
    def test_it_is_told_at_its_step_with_the_way_back(self, loss: float, norm: float) -> None:
        alarm = NotFinite().look(Log(41, loss, norm, 2e-4, "checkpoint-40"))
        assert alarm is not None
        assert (alarm.kind, alarm.step, alarm.pauses) == ("nan", 41, True)
        assert "Start again from checkpoint-40 with half the learning rate" in alarm.text
        assert alarm.then == {"resume_from": "checkpoint-40", "learning_rate": 1e-4}
        assert alarm.propose == {"op": "stop", "args": {"save": False}}, "nothing of it may be written over what is good"

    def test_without_a_checkpoint_the_way_back_is_the_beginning(self) -> None:
        alarm = NotFinite().look(Log(3, math.nan))
        assert alarm is not None
        assert "from the beginning" in alarm.text
        assert alarm.then == {"resume_from": None, "learning_rate": None}

    def test_it_is_told_once(self) -> None:
        assert [alarm.step for alarm in watch([Log(step, math.nan, 1.0) for step in (1, 2, 3)])] == [1]
        logs = [Log(1, math.nan, 1.0), Log(2, 1.0, 1.0), Log(3, math.nan, 1.0)]
        assert [alarm.step for alarm in watch(logs)] == [1, 3], "and again when it was over"

    def test_a_gradient_scaler_may_overflow_some_steps_in_a_row(self) -> None:
        """float16 starts with a scale that is too high and halves it until it fits."""
        logs = [Log(step, 1.0, math.inf) for step in range(1, 16)] + [Log(16, 1.0, 1.0)]
        assert watch(logs, scaled=True) == []
        assert watch(logs)[0].step == 1
        assert [alarm.step for alarm in watch([Log(step, 1.0, math.nan) for step in range(1, 40)], scaled=True)] == [21]

    def test_no_gradient_norm_is_no_fault(self) -> None:
        assert NotFinite().look(Log(1, 1.0, None)) is None


class TestDivergence:
    """A loss that leaves its lowest level for good."""

    @pytest.mark.parametrize("spread", [0.02, 0.1, 0.3])
    @pytest.mark.parametrize("count", [60, 300, 900])
    def test_it_is_seen_within_thirty_logs(self, count: int, spread: float) -> None:
        start = 2 * count // 3
        for seed in range(4):
            alarms = watch(raised(falling(seed, count, spread), start, 0.15))
            assert [alarm.kind for alarm in alarms].count("divergence") == 1
            assert alarms[0].kind == "divergence", "on its way up it is at no plateau; at the top it may be"
            assert start < alarms[0].step <= start + 30

    def test_it_proposes_half_the_rate_and_the_way_back(self) -> None:
        (alarm,) = watch(raised(falling(1, 300, 0.1), 100, 0.15))
        rate = next(log.learning_rate for log in falling(1, 300, 0.1) if log.step == alarm.step)
        assert alarm.propose == {"op": "set", "args": {"key": "learning_rate", "value": rate / 2}}  # type: ignore[operator]
        assert alarm.then == {"resume_from": "checkpoint-90", "learning_rate": rate / 2}  # type: ignore[operator]
        assert not alarm.pauses
        assert "the loss has risen from" in alarm.text

    def test_it_is_told_again_when_the_loss_had_come_back(self) -> None:
        logs = falling(2, 400, 0.05)
        twice = [
            Log(log.step, log.loss + (2.0 if place in range(150, 180) or place in range(300, 330) else 0.0), 1.0, 1e-4)
            for place, log in enumerate(logs)
        ]
        assert [(alarm.kind, alarm.step // 30) for alarm in watch(twice)] == [("divergence", 5), ("divergence", 10)]

    def test_one_hard_batch_is_none(self) -> None:
        logs = falling(3, 200, 0.05)
        assert watch([Log(log.step, log.loss + 5 * (log.step in (80, 81, 120)), log.grad_norm, 1e-4) for log in logs]) == []

    def test_gradients_that_explode_are_seen_before_the_loss_is(self) -> None:
        logs = [Log(log.step, log.loss, log.grad_norm if log.step < 100 else 80.0, log.learning_rate) for log in falling(4, 300, 0.05)]  # type: ignore[arg-type]
        alarms = watch(logs)
        assert [alarm.kind for alarm in alarms] == ["divergence"]
        assert 102 <= alarms[0].step < 115
        assert "the gradient norm is 80" in alarms[0].text

    def test_one_spike_of_the_gradient_is_none(self) -> None:
        logs = [Log(log.step, log.loss, 80.0 if log.step in (100, 101, 150) else 1.0, 1e-4) for log in falling(4, 200, 0.05)]
        assert watch(logs) == []


class TestPlateau:
    """A loss that goes nowhere."""

    def flat(self, rate: Callable[[int], float], count: int = 300, level: float = 0.9) -> list[Alarm]:
        dice = random.Random(1)
        losses = [level + 2 * math.exp(-step / 8) + dice.gauss(0, 0.02) for step in range(count)]
        return watch([Log(step + 1, loss, 1.0, rate(step)) for step, loss in enumerate(losses)])

    def test_it_is_told_once_with_half_the_rate(self) -> None:
        (alarm,) = self.flat(lambda step: 1e-4)
        assert alarm.kind == "plateau"
        assert 120 <= alarm.step < 200
        assert "have brought nothing: the loss was 0.8" in alarm.text
        assert alarm.propose == {"op": "set", "args": {"key": "learning_rate", "value": 5e-5}}

    def test_where_the_rate_was_halved_already_it_proposes_to_stop(self) -> None:
        (alarm,) = self.flat(lambda step: 1e-4 if step < 60 else 4e-5)
        assert alarm.propose == {"op": "stop", "args": {"save": True}}

    @pytest.mark.parametrize(
        "rate", [lambda step: 1e-6 * (step + 1), lambda step: 1e-4 if step < 100 else 1e-5], ids=["warming", "run out"]
    )
    def test_a_rate_that_warms_up_or_has_run_out_explains_it(self, rate: Callable[[int], float]) -> None:
        assert self.flat(rate) == []

    def test_noise_that_could_hide_an_improvement_is_none(self) -> None:
        dice = random.Random(2)
        assert watch([Log(step, 1 + dice.gauss(0, 0.3), 1.0, 1e-4) for step in range(1, 400)]) == []

    def test_a_slow_improvement_is_none(self) -> None:
        assert watch([Log(step, 2.0 * step**-0.1, 1.0, 1e-4) for step in range(1, 1000)]) == []


class TestStall:
    """A step that lasts."""

    def usual(self, seconds: float = 1.0) -> Stall:
        stall = Stall()
        for step in range(1, 20):
            assert stall.done(step, seconds) is None
        return stall

    def test_a_step_of_five_times_the_usual_is_told_once(self) -> None:
        stall = self.usual()
        alarm = stall.done(20, 6.0)
        assert alarm is not None
        assert (alarm.kind, alarm.step) == ("stall", 20)
        assert "step 20 takes 6 s, where 1 s are usual" in alarm.text
        assert alarm.propose == {"op": "stacks", "args": {}}
        assert stall.done(21, 7.0) is None
        assert stall.done(22, 1.0) is None
        assert stall.done(23, 7.0) is not None

    def test_it_is_told_while_the_step_still_lasts(self) -> None:
        stall = self.usual()
        assert stall.look(20, 4.0) is None
        assert stall.look(20, 5.5) is not None
        assert stall.look(20, 60.0) is None
        assert stall.done(20, 61.0) is None

    def test_short_steps_and_the_first_ones_are_left_alone(self) -> None:
        assert self.usual(0.04).done(20, 0.4) is None
        stall = Stall()
        assert [stall.done(step, seconds) for step, seconds in enumerate((0.1, 30.0, 0.1, 0.1, 9.0))] == [None] * 5


def test_noise_is_told_apart_from_the_trend_and_from_outliers() -> None:
    dice = random.Random(0)
    assert noise([10 - step / 100 + dice.gauss(0, 0.1) for step in range(400)]) == pytest.approx(0.1, rel=0.15)
    assert noise([dice.gauss(0, 0.1) + 5 * (step % 20 == 0) for step in range(400)]) == pytest.approx(0.1, rel=0.3)
    assert noise([1.0]) == 0.0


def test_a_long_run_costs_no_more_per_log_than_a_short_one() -> None:
    """Nothing is kept that grows and is read whole: counted in the losses that one log touches."""
    watching, touched = Watching(), []

    class Counting(list[float]):
        def __getitem__(self, place: object) -> object:  # type: ignore[override]
            found = super().__getitem__(place)  # type: ignore[call-overload]
            touched.append(len(found) if isinstance(found, list) else 1)
            return found

    for log in falling(0, 3000, 0.1):
        watching.log(log)
    watching.divergence.losses = Counting(watching.divergence.losses)
    watching.plateau.sums, watching.plateau.squares = Counting(watching.plateau.sums), Counting(watching.plateau.squares)
    watching.log(Log(3001, 0.7, 1.0, 1e-4))
    assert 0 < sum(touched) < 200
