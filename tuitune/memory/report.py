"""The document of `tuitune plan`: for scripts as it is, for people through tuitune.memory.printing."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tuitune.memory.advice import WITHIN, Advice, advise, fits, largest_batch, largest_length
from tuitune.memory.calibration import box_of, read_calibration
from tuitune.memory.pace import key_of, read_pace
from tuitune.memory.plan import Plan, plan
from tuitune.memory.settings import device
from tuitune.memory.step_time import step_time
from tuitune.preflight.cards import GIB, KNOWN

if TYPE_CHECKING:
    from tuitune.planning import Planned

COMMON = ("T4", "RTX 3060", "RTX 4080", "L4", "RTX 4090", "RTX 5090", "L40S", "A100", "H100", "H200", "B200")


def document(planned: "Planned") -> dict[str, Any]:
    """The JSON document of `tuitune plan --json`, without its "schema". Memory in bytes. `fits`, `margin` and `largest` are null without a
    card. `largest` and `advice` keep 5 % of the card free, which is what a plan may be off. `basis`: "formula", or "measured on a meta
    model" for a family that has none. `calibration`: what runs on this box measured
    for this card, null when none did or another card is named; `cards` are always without.
    `seconds_per_step`: `low` to `high`, `runs` of this box that they are from (0: from arithmetic), in words the `basis`, `steps` of the
    whole run or null; null where there is no number to be had."""
    shape, settings, card = planned.shape, planned.settings, planned.card
    measured = read_calibration(box_of(card.name, card.driver)) if card else None
    stack = device(card.capability if card else None, measured)
    made = plan(shape, settings, stack)
    pace = read_pace(box_of(card.name, card.driver), key_of(shape, settings)) if card else None
    time = step_time(shape, settings, card.name if card else None, pace, planned.mean, planned.steps)
    memory = card.memory if card else None
    found = [] if memory is None else advise(shape, settings, stack, memory)
    room = int((memory or 0) * WITHIN)
    return {
        "file": str(planned.file),
        "model": {"family": shape.family, "parameters": shape.parameters},
        "basis": "formula" if shape.measured is None else "measured on a meta model",
        "components": [asdict(component) for component in made.components if component.bytes],
        "phases": made.phases,
        "peak": {"allocated": made.allocated, "nvml": made.nvml, "phase": made.peak, "paged": made.paged},
        "card": card and {"name": card.name, "memory": memory, "capability": card.capability},
        "fits": None if memory is None else fits(made, memory),
        "margin": None if memory is None else memory - made.needed,
        "advice": [_advice(one) for one in found],
        "settings": asdict(settings),
        "length": _length(planned),
        "largest": None
        if memory is None
        else {"batch": largest_batch(shape, settings, stack, room), "length": largest_length(shape, settings, stack, room)},
        "cards": _cards(planned),
        "seconds_per_step": time and asdict(time),
        "calibration": measured and {**asdict(measured), "file": str(measured.file)},
    }


def _length(planned: "Planned") -> dict[str, Any]:
    """`tokens` of the longest row, `batch`: of the longest micro-batch, `evaluation`: of the longest evaluation row, null without one;
    `data`: how many sequences there are to train and their tokens, null when the length is max_length, and `why` says why."""
    settings, lengths = planned.settings, planned.lengths
    return {
        "tokens": settings.length,
        "from": planned.length_from,
        "why": planned.length_why,
        "batch": settings.tokens,
        "evaluation": settings.evaluated_length if settings.eval_batch else None,
        "data": lengths and {"sequences": lengths.sequences, "tokens": lengths.tokens},
    }


def _advice(advice: Advice) -> dict[str, Any]:
    (key, value), *more = advice.change.values.items()
    return {
        "change": {"key": key, "value": value, "with": dict(more)},
        "peak": {"allocated": advice.plan.allocated, "nvml": advice.plan.nvml},
        "costs": advice.change.costs,
    }


def _cards(planned: "Planned") -> list[dict[str, Any]]:
    """The run as it is on common cards. (Its 16-bit type is the one planned for.)"""
    plans: dict[Any, Plan] = {}
    rows = []
    for name in COMMON:
        memory, capability = int(KNOWN[name][0] * GIB), KNOWN[name][1]
        stack = device(capability)
        if stack not in plans:
            plans[stack] = plan(planned.shape, planned.settings, stack)
        made = plans[stack]
        rows.append({"name": name, "memory": memory, "nvml": made.nvml, "fits": fits(made, memory), "margin": memory - made.needed})
    return rows
