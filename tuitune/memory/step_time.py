"""Seconds a step: as this box's own runs have taken them, else from the arithmetic of a step and what an H200 reached of its peak. Pure.

The second is a range, and wide where a micro-batch is small: then the processor that launches the kernels decides, not the card. No number
where neither is to be had: a card whose peak is not known here, a model of which nobody knows how many experts a token takes.
"""

from dataclasses import dataclass

from tuitune.memory.pace import Pace
from tuitune.memory.settings import Settings
from tuitune.memory.shape import Shape
from tuitune.preflight.cards import known_name

# card → (dense 16-bit TFLOP/s with sums in float32, memory's TB/s): NVIDIA's data sheets and architecture white papers
CARDS = {
    **{"T4": (65.0, 0.32), "V100": (125.0, 0.9), "RTX 3090": (71.0, 0.936), "RTX 4080": (97.5, 0.717), "RTX 4090": (165.2, 1.008)},
    **{"RTX 5090": (209.5, 1.792), "A10": (125.0, 0.6), "A30": (165.0, 0.933), "A40": (149.7, 0.696), "A6000": (154.8, 0.768)},
    **{"A100": (312.0, 2.0), "L4": (121.0, 0.3), "L40S": (362.0, 0.864), "H100": (989.0, 3.35), "H200": (989.0, 4.8)},
    "B200": (2250.0, 8.0),
}
# From 50 runs recorded on one H200 (tests/support/recorded): arithmetic ran at about half the peak and never above 0.6; beside it each
# layer took 3.3 ms a pass with adapters and 2 without, which is launching its kernels. Nine in ten runs took 0.4 to 1.75 times what the
# two come to (tests/unit/memory/test_step_time.py).
REACHED, MOST_REACHED = 0.5, 0.6
LAUNCH, LAUNCH_FULL = 0.0033, 0.002
FASTEST, SLOWEST = 0.4, 1.75


@dataclass(frozen=True)
class StepTime:
    """Seconds of an optimizer step, `low` to `high`. `runs` of this box that took as long; 0: from the arithmetic, and `basis` says of
    what. `steps`: of the whole run, None when nobody knows."""

    low: float
    high: float
    runs: int
    basis: str
    steps: int | None = None


def step_time(
    shape: Shape, settings: Settings, card: str | None, pace: Pace | None, mean: float | None = None, steps: int | None = None
) -> StepTime | None:
    """How long a step takes on a card of this name. `pace`: what this box has measured; `mean`: tokens of a sequence of the data on
    average, None when nobody knows: then all are taken to be as long as the longest. None where there is no number to be had."""
    if pace is not None:
        each = settings.accumulation
        runs = f"{pace.runs} run{'s' * (pace.runs != 1)} on this box"
        return StepTime(pace.fastest * each, pace.slowest * each, pace.runs, runs, steps)
    known = CARDS.get(known_name(card) or "") if card else None
    active = active_weights(shape)
    if known is None or active is None:
        return None
    work, beside = _seconds(shape, settings, active, known, mean)
    usual = work / REACHED + beside
    dequantised = _dequantised(settings, active, known)
    low = max(FASTEST * usual, work / MOST_REACHED + dequantised)
    basis = "the arithmetic of a step, at what an H200 reached of its peak" + ("" if mean is not None else "; rows as long as the longest")
    return StepTime(low * settings.accumulation, max(SLOWEST * usual, low) * settings.accumulation, 0, basis, steps)


def usual_seconds(shape: Shape, settings: Settings, card: str | None, mean: float | None = None) -> float:
    """Of a micro-batch, to compare one with another: on a card or model that is not known, as on an A100 with every weight in use."""
    known = CARDS.get(known_name(card or "") or "", CARDS["A100"])
    work, beside = _seconds(shape, settings, active_weights(shape) or shape.all_linear_weights, known, mean)
    return work / REACHED + beside


def _seconds(shape: Shape, settings: Settings, active: int, card: tuple[float, float], mean: float | None) -> tuple[float, float]:
    """Of a micro-batch: its arithmetic at the card's peak; reading 4-bit weights and launching kernels."""
    length = settings.length if mean is None else min(mean, settings.length)
    tokens = settings.tokens if mean is None else min(settings.batch * settings.rows_each * length, settings.tokens)
    work = flops(shape, settings, active, tokens, length) / (card[0] * 1e12)
    launched = (LAUNCH if settings.lora else LAUNCH_FULL) * shape.layers * (passes(settings) + 1)
    return work, _dequantised(settings, active, card) + launched


def _dequantised(settings: Settings, active: int, card: tuple[float, float]) -> float:
    """Seconds for half a byte read and two written of every 4-bit weight, each pass."""
    return 2.5 * active * passes(settings) / (card[1] * 1e12) if settings.quantised else 0.0


def passes(settings: Settings) -> float:
    """Forward and backward, a second forward of what is checkpointed, the reference's."""
    again = 1 / settings.checkpoint_every if settings.checkpoint_every else 0.0
    return 2.0 + again + (1.0 if settings.reference != "none" else 0.0)


def active_weights(shape: Shape) -> int | None:
    """Elements of matrices that a token is multiplied with, the head apart; None when that is not known (stacked experts of a family
    without formulas)."""
    if shape.measured is not None and sum(size * count for size, count in shape.measured.tensors) > shape.all_linear_weights // 10:
        return None
    experts = 3 * shape.experts.used * shape.experts.width * shape.hidden * shape.layers if shape.experts else 0
    return shape.all_linear_weights + experts


def flops(shape: Shape, settings: Settings, active: int, tokens: float, length: float) -> float:
    """Of a micro-batch: 2 for each weight and token forward, as many for the inputs' gradients, as many for trained weights'; attention
    over half of `length`; a fused head makes its logits twice."""
    seen = min(length, shape.window or length)
    forward = 2 * active * tokens + 2 * tokens * seen * shape.query_width * shape.layers
    trained = 0 if settings.lora else 2 * active * tokens
    head = 2 * shape.embedding * tokens * settings.scored if settings.loss != "none" else 0
    heads = (2 if settings.loss != "fused" else 3) + (0 if settings.lora else 1)
    # attention's backward is twice its forward: `forward` counts it once more
    attention = 2 * tokens * seen * shape.query_width * shape.layers
    return forward * passes(settings) + attention + trained + head * heads


def words(time: StepTime) -> str:
    """ "about 1.2 s a step, 41 min in all (3 runs on this box)" """
    total = "" if time.steps is None else f", {_between(time.low * time.steps, time.high * time.steps)} in all for {time.steps:,} steps"
    return f"about {_between(time.low, time.high)} a step{total} ({time.basis})"


def _between(low: float, high: float) -> str:
    first, last = _duration(low), _duration(high)
    return last if first == last else f"{first} to {last}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
