"""What a run's longest batch should take by the plan, what it took, and what to change when it does not fit. Pure functions.

The plan's phases are finer than what can be measured: the highest of those that run between two readings stands for them.
"""

from dataclasses import dataclass, replace
from typing import Any

from tuitune.memory import loss
from tuitune.memory.advice import advise
from tuitune.memory.plan import Plan, has_usual_share, plan, unused_share
from tuitune.memory.settings import Device, Settings
from tuitune.memory.shape import Shape

PHASES = ("load", "optimizer step", "forward", "backward", "evaluation")  # in the order in which they are measured
WORKSPACE = "cuBLAS workspace"


@dataclass(frozen=True)
class Batch:
    """A collated micro-batch. `rows` of the data set (a pair is one), `length` tokens of its longest sequence (of joined rows: the mean),
    `tokens`: positions of all sequences, padding included; `scored`: share of them that counts for the loss."""

    rows: int
    length: int
    tokens: int
    scored: float = 1.0


@dataclass(frozen=True)
class Expected:
    """Bytes by the plan. `phases` and `components` by the names of PHASES; `process`: what NVML will show; `states`: of the optimizer, in
    torch's memory; `unused` by the allocator, and what of it the plan knows by itself to lie `idle`; `usual`: whether the rest is the share
    that every run has (else lengths that differ make it larger)."""

    phases: dict[str, int]
    components: dict[str, dict[str, int]]
    process: int
    states: int
    context: int
    unused: int
    idle: int
    usual: bool

    @property
    def peak(self) -> int:
        """What torch will have allocated at the most."""
        return max(self.phases.values())


def measured_settings(settings: Settings, batch: Batch, eval_rows: int = 0) -> Settings:
    """The settings with a batch that is known."""
    return replace(settings, length=batch.length, batch=batch.rows, scored=batch.scored, eval_batch=eval_rows)


def expect(shape: Shape, settings: Settings, device: Device, train: Batch, evaluation: Batch | None) -> Expected:
    """What the plan says of these two batches. UserError for what there are no figures for."""
    settings = measured_settings(settings, train)
    made = plan(shape, settings, device)
    phases, components = _grouped(made)
    process = made.nvml
    if evaluation is not None:
        evaluated = measured_settings(settings, replace(evaluation, rows=1), eval_rows=evaluation.rows)
        later = plan(shape, evaluated, device)
        phases["evaluation"] = later.phases["evaluation"]
        components["evaluation"] = {one.name: one.bytes for one in later.of_phase("evaluation")}
        process = max(process, int(phases["evaluation"] * (1 + unused_share(settings, device))) + device.context + made.paged)
    idle = loss.idle_bytes(shape, settings)
    unused = int(max(phases.values()) * unused_share(settings, device)) + idle
    return Expected(
        phases,
        components,
        process,
        made.parts["optimizer step"]["optimizer states"],
        device.context,
        unused,
        idle,
        has_usual_share(settings),
    )


def _grouped(made: Plan) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Phases and their components as they can be measured. At the first optimizer step nothing has been multiplied yet: no workspace."""
    phases: dict[str, int] = {}
    components: dict[str, dict[str, int]] = {}
    for name in made.phases:
        parts = {one.name: one.bytes for one in made.of_phase(name)}
        group = name if name in ("load", "optimizer step") else "forward" if name in ("forward", "reference") else "backward"
        if group == "optimizer step":
            parts.pop(WORKSPACE, None)
        total = sum(parts.values())
        if total >= phases.get(group, 0):
            phases[group], components[group] = total, parts
    return phases, components


def difference(measured: float | None, planned: float | None) -> float | None:
    """How far a measured figure is off the planned one, in per cent of the planned; None when one is not known."""
    return None if measured is None or not planned else round(100 * (measured / planned - 1), 1)


def remedies(shape: Shape, settings: Settings, device: Device, memory: int, phase: str, evaluation: Batch | None) -> list[str]:
    """What to change after `phase` ran out of `memory` bytes, each as recipe keys, on top of those before. `settings`: with the batch that
    did not fit. What was measured counts: a plan that says "fits" is taken to need all there is."""
    if phase == "evaluation" and evaluation is not None and evaluation.rows > 1:
        return ["training.per_device_eval_batch_size: 1"]
    tight = min(memory, plan(shape, settings, device).needed - 1)
    found = advise(shape, settings, device, tight)
    return [", ".join(f"{key}: {_yaml(value)}" for key, value in one.change.values.items()) for one in found]


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
