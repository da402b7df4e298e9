"""What makes a run slow, dearest first, each with what it costs and what to do about it. Pure.

A cost is the share of the time since the training began that would be saved if its cause were gone; None where nobody can say. What is
proposed for padding or launches changes a recipe in ways that a reader shall know of, so a proposal says when it changes what is learnt.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tuitune.bus.envelope import as_number
from tuitune.runs.slow.mfu import Utilisation, utilisation
from tuitune.runs.slow.proposals import Proposal, Settings, larger_batches, less_often, less_padding, more_workers, no_recomputation
from tuitune.runs.slow.tally import Card, Parts, Tally

LEAST, LEAST_PADDING = 0.01, 0.05  # shares from which something is worth a line
AHEAD = 0.1  # of a step: a GPU that is so far behind the launches of its kernels is never without work
BUSY, IDLE = 85.0, 70.0  # per cent of NVML's utilisation, for trainers that do not tell how far their GPU is behind
MOSTLY = 0.5
SAMPLES = 5  # seconds of GPU samples that a mean is made of
HEAT = {"thermal", "thermal (hardware)", "hardware slowdown", "power brake"}

Bound = Literal["data", "launches", "compute"]


@dataclass(frozen=True)
class Finding:
    """`kind`: data, evaluation, answers, checkpoints, pauses, padding, launches, recomputation, heat or power; `cost`: see the module;
    `short`: two or three words with the figure, `text`: a sentence."""

    kind: str
    cost: float | None
    short: str
    text: str
    proposal: Proposal | None = None


@dataclass(frozen=True)
class WhySlow:
    """`bound`: what the steps themselves wait for, None when it cannot be told (on the CPU, or too early); `utilisation`: or why there is
    none; `shares`: of the time since the training began, by state; `measured`: whether the trainer has told of its steps."""

    findings: tuple[Finding, ...] = ()
    bound: Bound | None = None
    utilisation: Utilisation | str = "no step was measured yet"
    shares: Mapping[str, float] = field(default_factory=dict)
    measured: bool = False


@dataclass(frozen=True)
class _Steps:
    """The recent steps as shares of their own time. `training`: their share of the run's time; `util` in per cent."""

    training: float
    data: float
    behind: float | None
    padding: float | None
    util: float | None


def percent(share: float) -> str:
    """ "22 %" """
    return f"{100 * share:.0f} %"


def why_slow(tally: Tally, settings: Settings) -> WhySlow:
    """Of the newest attempt. `settings`: values in force by "section.key" (the run's ledger)."""
    total = tally.total
    if total <= 0:
        return WhySlow()
    settings = {**settings, **{f"training.{key}": value for key, value in tally.set.items()}}
    shares = {name: seconds / total for name, seconds in tally.seconds.items()}
    steps = _steps(tally.steady(), tally.cards, shares.get("running", 0.0))
    bound = None if steps is None else _bound(steps, gpu=bool(tally.card_names))
    found = list(_apart(tally, settings, total))
    if steps is not None:
        found += _inside(tally, settings, steps, bound)
        found += _held_down(tally.cards, steps.training)
    found.sort(key=lambda finding: -1.0 if finding.cost is None else finding.cost, reverse=True)
    return WhySlow(tuple(found), bound, utilisation(tally), shares, measured=steps is not None)


def _steps(parts: list[Parts], cards: Any, training: float) -> _Steps | None:
    wall = sum(one.steps * one.wall_ms for one in parts)
    if not wall:
        return None
    told = [one for one in parts if one.behind_ms is not None]
    behind = sum(one.steps * (one.behind_ms or 0.0) for one in told) / sum(one.steps * one.wall_ms for one in told) if told else None
    places = sum(one.steps * (one.places or 0.0) for one in parts)
    padding = sum(one.steps * (one.places or 0.0) * (one.padding or 0.0) for one in parts) / places if places else None
    utils = [card.util for card in cards if card.util is not None]
    util = sum(utils) / len(utils) if len(utils) >= SAMPLES else None
    return _Steps(training, sum(one.steps * one.data_ms for one in parts) / wall, behind, padding, util)


def _bound(steps: _Steps, *, gpu: bool) -> Bound | None:
    """A GPU that lags behind its launches has work; one that does not waits for data or for launches. Where NVML says the contrary, or
    where neither is clear: None."""
    if not gpu:
        return None
    if steps.data >= MOSTLY:
        return "data"
    util = steps.util
    if steps.behind is not None:
        if steps.behind >= AHEAD:
            return "compute" if util is None or util >= 100 * MOSTLY else None
        return "launches" if util is None or util < BUSY else None
    if util is None or IDLE <= util < BUSY:
        return None
    return "compute" if util >= BUSY else "launches"


def _apart(tally: Tally, settings: Settings, total: float) -> Iterator[Finding]:
    """What is no training."""
    evaluated, saving = tally.evaluations, tally.seconds.get("saving", 0.0)
    often = {what: less_often(tally, settings, what, taken) for what, taken in (("eval", evaluated), ("save", saving))}
    timed = (
        ("evaluation", evaluated, "evaluation", "evaluations take", often["eval"]),
        ("answers", tally.answers, "answers", "watched prompts and probes take", Proposal("raise watch.every")),
        ("checkpoints", saving, "checkpoints", "writing checkpoints takes", often["save"]),
        ("pauses", tally.seconds.get("paused", 0.0), "paused", "the run was paused for", None),
    )
    for kind, seconds, word, words, proposal in timed:
        if seconds >= LEAST * total:
            share = percent(seconds / total)
            yield Finding(kind, seconds / total, f"{word} {share}", f"{words} {share} of the time", proposal)


def _inside(tally: Tally, settings: Settings, steps: _Steps, bound: Bound | None) -> Iterator[Finding]:
    """What the steps themselves wait for or do in vain."""
    if steps.data >= LEAST:
        yield Finding(
            "data",
            steps.data * steps.training,
            f"data {percent(steps.data)}",
            f"steps wait {percent(steps.data)} of their time for the next rows",
            more_workers(settings) if tally.card_names else None,
        )
    busy = 1 - steps.data if steps.util is None or bound == "compute" else min(1 - steps.data, steps.util / 100)
    if steps.padding is not None and steps.padding >= LEAST_PADDING:
        yield Finding(
            "padding",
            steps.padding * busy * steps.training,
            f"padding {percent(steps.padding)}",
            f"{percent(steps.padding)} of the computed tokens are padding",
            less_padding(settings, launches=bound == "launches"),
        )
    if bound == "launches":
        idle = None if steps.util is None else max(0.0, 1 - steps.data - steps.util / 100)
        figure = "" if idle is None else f" {percent(idle)}"
        seen = "" if steps.util is None else f": it is busy for {steps.util:.0f} % of the time"
        yield Finding(
            "launches",
            None if idle is None else idle * steps.training,
            f"launches{figure}",
            f"the GPU waits for the processor to launch its kernels{seen}, because a micro-batch is too small for it",
            larger_batches(tally, settings),
        )
    again = _recomputed(tally)
    if again and bound is not None and (proposal := no_recomputation(tally, settings)):
        cost = again * (1 - steps.data) * steps.training
        text = f"checkpointing recomputes: {percent(again)} of the arithmetic"
        yield Finding("recomputation", cost, f"recomputing {percent(again)}", text, proposal)


def _recomputed(tally: Tally) -> float:
    """Share of a step's arithmetic that is done a second time."""
    found = utilisation(tally)
    if isinstance(found, str) or not tally.work.get("recompute"):
        return 0.0
    products = 2 + bool(tally.work.get("full")) + bool(tally.work.get("reference"))
    again = as_number(tally.work["recompute"]) or 0.0
    return again / (products + again)


def _held_down(cards: Any, training: float) -> Iterator[Finding]:
    """What holds the clocks down, and how far."""
    samples: list[Card] = list(cards)
    if len(samples) < SAMPLES:
        return
    free = [card.clock for card in samples if card.clock is not None and not card.reasons & (HEAT | {"power cap"})]
    for kind, reasons in (("heat", HEAT), ("power", {"power cap"})):
        held = [card for card in samples if card.reasons & reasons]
        clocks = [card.clock for card in held if card.clock is not None]
        if not held:
            continue
        part = len(held) / len(samples)
        lost = max(0.0, 1 - sum(clocks) / len(clocks) / max(free)) if clocks and free else None
        if kind == "power" and (lost is None or lost * part < LEAST):
            continue  # at full load a card works at its power limit; that alone says nothing
        named = ", ".join(sorted({reason for card in held for reason in card.reasons & reasons}))
        slower = "" if lost is None else f", at {sum(clocks) / len(clocks):,.0f} instead of {max(free):,.0f} MHz"
        limit = next((card.limit for card in reversed(held) if card.limit), None)
        what = "Cool it: airflow, fans, dust, its neighbours" if kind == "heat" else "an administrator can raise it: nvidia-smi -pl WATTS"
        at = f" of {limit:.0f} W" if kind == "power" and limit else ""
        yield Finding(
            kind,
            None if lost is None else lost * part * training,
            f"{named} {percent(part)}",
            f"clocks are held down by {named}{at} in {percent(part)} of the seconds{slower}",
            Proposal(what[:1].lower() + what[1:]),
        )
