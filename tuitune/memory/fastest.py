"""How an update of so many rows is best taken apart: rows a micro-batch, and how much of the forward pass is computed again. Pure.

What is learnt stays the same: TRL divides the loss by the tokens of the whole update, however it is split.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tuitune.memory.advice import WITHIN, fits
from tuitune.memory.plan import Plan, plan
from tuitune.memory.settings import Device, Settings
from tuitune.memory.shape import Shape
from tuitune.memory.step_time import usual_seconds

EVERY = (0, 4, 3, 2, 1)  # layers are recomputed: none, every 4th, …, every one


@dataclass(frozen=True)
class Split:
    """Settings with `batch` × `accumulation` rows an update; `seconds` of it by the arithmetic."""

    settings: Settings
    plan: Plan
    seconds: float


def fitting(
    shape: Shape,
    settings: Settings,
    device: Device,
    memory: int,
    card: str | None,
    rows: int,
    every: tuple[int, ...] = EVERY,
    mean: float | None = None,
) -> list[Split]:
    """The splits of `rows` rows an update that fit `memory` bytes with 5 % to spare, the fastest first; [] when none does.

    `every`: the recomputations to choose from. `mean`: tokens of a row on average, where it is known.
    """
    room = int(memory * WITHIN)
    found = [split for split in _splits(shape, settings, device, card, rows, every, mean) if fits(split.plan, room)]
    return sorted(found, key=lambda split: split.seconds)


def fastest_of_each_batch(splits: Sequence[Split]) -> list[Split]:
    """Of splits in order of time the first of each micro-batch: with the same rows at a time, more recomputation is only more work."""
    found: dict[int, Split] = {}
    for split in splits:
        found.setdefault(split.settings.batch, split)
    return list(found.values())


def _splits(
    shape: Shape, settings: Settings, device: Device, card: str | None, rows: int, every: tuple[int, ...], mean: float | None
) -> Iterator[Split]:
    for batch in range(rows, 0, -1):
        if rows % batch:
            continue
        for again in every:
            tried = replace(
                settings,
                batch=batch,
                accumulation=rows // batch,
                checkpoint_every=again,
                padded=settings.padded or (not settings.packed and batch > 1),
                eval_batch=batch if settings.eval_batch else 0,
            )
            yield Split(tried, plan(shape, tried, device), usual_seconds(shape, tried, card, mean) * tried.accumulation)
