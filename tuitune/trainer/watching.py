"""Alarms about a run that goes wrong: numbers that are none, divergence, a plateau, a stalled step. Pure: figures in, alarms out.

Each detector speaks once and is silent until what it spoke of is over. An alarm proposes a command; what is done without being asked is the
recipe's to say (`watch.then`, `order`). Only numbers that are none (`pauses`) leave the run nothing to go on with, and its checkpoints must
not be written over.

The measures are robust (medians, and the noise by the differences between neighbours), because a training loss is noisy, skewed and falls:
tests/unit/trainer/test_watching.py holds them against recorded runs and seeded curves.
"""

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any, Literal
from uuid import uuid4

Kind = Literal["nan", "divergence", "plateau", "stall", "forgetting"]


@dataclass(frozen=True)
class Alarm:
    """`propose`: a command of the run ({"op", "args"}), or None. `then`: how to start again where a command is not enough:
    {"resume_from": name of a checkpoint or None for the beginning, "learning_rate"}."""

    kind: Kind
    step: int
    text: str
    propose: dict[str, Any] | None = None
    then: dict[str, Any] | None = None

    @property
    def pauses(self) -> bool:
        """Whether the run must stand still before it saves anything."""
        return self.kind == "nan"


def order(alarm: Alarm, then: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is ordered at an alarm by the recipe's `watch.then`, without being asked; None where it only proposes."""
    op = then.get(alarm.kind) or ("pause" if alarm.pauses else "propose")
    args = {"pause": {"mode": "keep"}, "stop": {"save": True}}.get(op)
    if args is None:
        return None
    key = f"alarm-{alarm.kind}-{uuid4().hex[:12]}"  # attempts may come to the same step
    return {"id": key, "op": op, "by": "tuitune", "args": args, "why": f"{alarm.kind}: {alarm.text}"}


@dataclass(frozen=True)
class Log:
    """One log of the training. `checkpoint`: the name of the newest whole one, None when there is none yet."""

    step: int
    loss: float
    grad_norm: float | None = None
    learning_rate: float | None = None
    checkpoint: str | None = None


def halved(learning_rate: float | None) -> dict[str, Any] | None:
    """The command that halves the learning rate; None when it is not known or nothing."""
    if not learning_rate or not math.isfinite(learning_rate):
        return None
    return {"op": "set", "args": {"key": "learning_rate", "value": learning_rate / 2}}


def back(log: Log) -> dict[str, Any]:
    """To the newest checkpoint with half the rate."""
    return {"resume_from": log.checkpoint, "learning_rate": log.learning_rate and log.learning_rate / 2}


@dataclass
class NotFinite:
    """Loss or gradient norm is no number. `scaled`: float16, whose gradient scaler makes gradients overflow on purpose and leaves such
    steps out, so that only many of them in a row are a fault."""

    scaled: bool = False
    patience: int = 20  # steps in a row
    overflows: int = 0
    spoken: bool = False

    def look(self, log: Log) -> Alarm | None:
        """Every step, before it is saved. `log.loss` may be the sum since the last log: it stays no number once it is."""
        loss_fails = not math.isfinite(log.loss)
        self.overflows = 0 if log.grad_norm is None or math.isfinite(log.grad_norm) else self.overflows + 1
        if not loss_fails and self.overflows <= (self.patience if self.scaled else 0):
            self.spoken = False
            return None
        if self.spoken:
            return None
        self.spoken = True
        what = f"the loss is {log.loss}" if loss_fails else f"the gradient norm is {log.grad_norm}"
        start = f"from {log.checkpoint}" if log.checkpoint else "from the beginning, there is no checkpoint yet,"
        text = f"{what} at step {log.step}: what is learnt after it is no use. Start again {start} with half the learning rate"
        return Alarm("nan", log.step, text, {"op": "stop", "args": {"save": False}}, back(log))


@dataclass
class Divergence:
    """The loss has left its lowest level for good, or gradients explode."""

    smooth: int = 7  # logs in one median
    hold: int = 5  # logs in a row that must agree
    noise_logs: int = 50
    first_logs: int = 20  # before these nothing is said: the start is steep and warms up
    losses: list[float] = field(default_factory=list)
    norms: deque[float] = field(default_factory=lambda: deque(maxlen=60))
    lowest: tuple[float, int] | None = None  # (smoothed loss, step)
    risen: int = 0
    exploded: int = 0
    spoken: bool = False

    def look(self, log: Log) -> Alarm | None:
        """Every log, of finite figures."""
        if not math.isfinite(log.loss):
            return None
        self.losses.append(log.loss)
        explosion = self._explosion(log)
        if len(self.losses) < self.smooth:
            return None
        now, margin, usual = median(self.losses[-self.smooth :]), *self._noise()
        above = self.lowest is not None and now > self.lowest[0] + margin
        if self.lowest is None or now < self.lowest[0]:
            self.lowest = (now, log.step)
        self.risen = self.risen + 1 if above and now > usual else 0
        if not above and explosion is None:
            self.spoken = False
        if self.spoken or len(self.losses) < self.first_logs:
            return None
        text = None
        if self.risen >= self.hold:
            level, step = self.lowest
            text = f"the loss has risen from {level:.4g} at step {step} to {now:.4g} (median of {self.smooth}); noise explains {margin:.2g}"
        elif self.exploded >= 3:
            text = explosion
        if text is None:
            return None
        self.spoken = True
        return Alarm("divergence", log.step, f"{text}. Halve the learning rate, or go back", halved(log.learning_rate), back(log))

    def _noise(self) -> tuple[float, float]:
        """By how much noise could have raised the smoothed loss, and what the losses before it rarely passed."""
        earlier = self.losses[-self.noise_logs - self.smooth : -self.smooth]
        if len(earlier) < self.smooth or self.lowest is None:
            return math.inf, math.inf
        start = abs(median(self.losses[: self.smooth]))
        return max(4 * noise(earlier), 0.15 * abs(self.lowest[0]), 0.25 * start), ninth_tenth(earlier)

    def _explosion(self, log: Log) -> str | None:
        """The last gradient norms against those before, while the loss does not fall."""
        if log.grad_norm is None or not math.isfinite(log.grad_norm):
            return None
        usual = ninth_tenth(self.norms) if len(self.norms) >= self.first_logs else None
        if usual is None or log.grad_norm <= 10 * usual:
            self.norms.append(log.grad_norm)  # an explosion is not to become what is usual
            self.exploded = 0
            return None
        falling = median(self.losses[-3:]) < median(self.losses[-13:-3])
        self.exploded = 0 if falling else self.exploded + 1
        return f"the gradient norm is {log.grad_norm:.3g}, where nine of ten were below {usual:.2g}, for {self.exploded} logs in a row"


@dataclass
class Plateau:
    """The last third of the run so far has brought next to nothing, as far as its noise lets one say so: what it may have brought (95 %)
    is below 1 % of the loss, and it has not risen by more than 3 %. While the rate warms up or has run out, that says nothing."""

    shortest: int = 40  # logs in a third
    sums: list[float] = field(
        default_factory=lambda: [0.0]
    )  # of the losses up to each log, so that a long run costs no more than a short one
    squares: list[float] = field(default_factory=lambda: [0.0])
    peak: float = 0.0  # highest learning rate so far
    previous: float | None = None  # learning rate of the log before
    held: int = 0  # logs in a row that say so: a curve that turns upwards passes through
    spoken: bool = False

    def look(self, log: Log) -> Alarm | None:
        """Every log, of finite figures."""
        if not math.isfinite(log.loss):
            return None
        self.sums.append(self.sums[-1] + log.loss)
        self.squares.append(self.squares[-1] + log.loss**2)
        rate, before = log.learning_rate, self.previous
        self.previous = rate
        self.peak = max(self.peak, rate or 0.0)
        logs = len(self.sums) - 1
        third = logs // 3
        if third < self.shortest or (rate is not None and ((before is not None and rate > before) or rate < 0.2 * self.peak)):
            return None
        (old, old_variance), (new, new_variance) = self._window(logs - 2 * third, third), self._window(logs - third, third)
        gained, unsure = old - new, 2 * math.sqrt((old_variance + new_variance) / third)
        little = max(0.01 * abs(old), 0.005 * abs(self._window(0, 5)[0]))
        flat = gained + unsure < little and gained - unsure > -3 * little
        self.held = self.held + 1 if flat else 0
        if gained - unsure > little:
            self.spoken = False
        if self.spoken or self.held < max(10, third // 4):
            return None
        self.spoken = True
        text = f"the last {third} logs have brought nothing: the loss was {new:.4g} on average, and {old:.4g} over as many before"
        stop = {"op": "stop", "args": {"save": True}}
        first_try = rate is not None and rate >= 0.5 * self.peak
        advice = "Halve the learning rate, or stop here" if first_try else "Stop here: with a lower rate it went no further"
        return Alarm("plateau", log.step, f"{text}. {advice}", (halved(rate) or stop) if first_try else stop)

    def _window(self, start: int, length: int) -> tuple[float, float]:
        """Mean and variance of so many losses from there on."""
        mean = (self.sums[start + length] - self.sums[start]) / length
        return mean, max(0.0, (self.squares[start + length] - self.squares[start]) / length - mean**2)


@dataclass
class Stall:
    """A step that takes five times as long as usual. Can be asked while the step still lasts."""

    times: float = 5.0
    slack: float = 2.0  # seconds: below this a step is not worth a word
    first_steps: int = 10
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    spoken: bool = False

    def look(self, step: int, so_far: float) -> Alarm | None:
        """The step at work has lasted `so_far` seconds (evaluations, saving, samples and pauses apart)."""
        if len(self.seconds) < self.first_steps or self.spoken:
            return None
        usual = median(self.seconds)
        if so_far < self.times * usual or so_far < usual + self.slack:
            return None
        self.spoken = True
        text = f"step {step} takes {so_far:.0f} s, where {usual:.2g} s are usual: data, disk, another process on the GPU, or a hang"
        return Alarm("stall", step, text, {"op": "stacks", "args": {}})

    def done(self, step: int, seconds: float) -> Alarm | None:
        """The step has ended after so many seconds."""
        alarm = self.look(step, seconds)
        usual = median(self.seconds) if self.seconds else seconds
        self.seconds.append(seconds)
        if seconds < 2 * usual:
            self.spoken = False
        return alarm


@dataclass
class Watching:
    """All detectors of a run. `scaled`: it trains in float16."""

    scaled: bool = False
    not_finite: NotFinite = field(init=False)
    divergence: Divergence = field(default_factory=Divergence)
    plateau: Plateau = field(default_factory=Plateau)
    stall: Stall = field(default_factory=Stall)

    def __post_init__(self) -> None:
        self.not_finite = NotFinite(self.scaled)

    def step(self, log: Log, seconds: float) -> list[Alarm]:
        """At every boundary, before anything of the step is logged or saved."""
        return [alarm for alarm in (self.not_finite.look(log), self.stall.done(log.step, seconds)) if alarm]

    def log(self, log: Log) -> list[Alarm]:
        """At every log of the training."""
        return [alarm for alarm in (self.divergence.look(log), self.plateau.look(log)) if alarm]


def ninth_tenth(values: Collection[float]) -> float:
    """What nine of ten values are at most; of a skewed curve (DPO pair by pair) the noise says too little."""
    return sorted(values)[9 * (len(values) - 1) // 10]


def noise(values: Sequence[float]) -> float:
    """The standard deviation of what a curve does beside its trend, by the differences of neighbours; outliers hardly count."""
    differences = [abs(after - before) for before, after in pairwise(values)]
    return 1.4826 * median(differences) / math.sqrt(2) if differences else 0.0
