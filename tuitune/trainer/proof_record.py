"""What a proof tells: the `proof` event of the journal, and the sentence with which a run ends whose longest batch does not fit. Pure."""

from dataclasses import asdict, dataclass
from typing import Any

from tuitune.memory.expected import PHASES, Batch, Expected, difference
from tuitune.preflight.cards import GIB
from tuitune.text import printable
from tuitune.trainer.readings import OnCard, Reading

FALLBACK = "halve per_device_train_batch_size and double gradient_accumulation_steps, or shorten max_length"


@dataclass(frozen=True)
class Found:
    """What a proof has measured so far. `readings` by phase (None: on the CPU); `optimizer`: how its step was counted; `card` and
    `reserved` (torch's, in bytes) of one moment at the end, None when it was not reached."""

    train: Batch
    evaluation: Batch | None
    readings: dict[str, Reading | None]
    optimizer: str
    evaluated: str
    card: OnCard | None = None
    reserved: int | None = None

    @property
    def allocated(self) -> int | None:
        """torch's highest figure over all phases, in bytes."""
        return max((one.allocated for one in self.readings.values() if one), default=None)

    @property
    def peak_reserved(self) -> int | None:
        """The allocator's highest figure over all phases, in bytes."""
        return max((one.reserved for one in self.readings.values() if one), default=None)

    @property
    def context(self) -> int | None:
        """What the process holds outside of torch: CUDA context and kernels, in bytes."""
        if self.card is None or self.card.process is None or self.reserved is None:
            return None
        return self.card.process - self.reserved


def record(found: Found, expected: Expected | None, why: str, runs: int, seconds: float) -> dict[str, Any]:
    """The fields of the `proof` event; bytes, differences in per cent of the plan. `plan`: why there is none, else null; `measured`: why
    nothing was, else null; `calibrated`: by how many runs of this box the plan is."""
    process = found.card.process if found.card else None
    unused = None if found.allocated is None or found.peak_reserved is None else found.peak_reserved - found.allocated
    return {
        "step": 0,
        "batch": asdict(found.train),
        "eval_batch": found.evaluation and asdict(found.evaluation),
        "seconds": round(seconds, 3),
        "plan": why or None,
        "measured": None if found.allocated is not None else "on the CPU torch counts no memory",
        "optimizer": found.optimizer,
        "evaluation": found.evaluated,
        "calibrated": runs,
        "phases": [_phase(name, found, expected) for name in PHASES if name in found.readings],
        "components": _components(found, expected, unused),
        "allocated": _pair(expected.peak if expected else None, found.allocated),
        "process": _pair(expected.process if expected else None, process),
        "hidden": found.allocated is not None and process is None,
        "others": found.card.others if found.card else [],
    }


def _phase(name: str, found: Found, expected: Expected | None) -> dict[str, Any]:
    reading = found.readings[name]
    planned = expected.phases.get(name) if expected else None
    return {
        "phase": name,
        **_pair(planned, reading.allocated if reading else None),
        "reserved": reading.reserved if reading else None,
        "components": expected.components.get(name, {}) if expected else {},
    }


def _components(found: Found, expected: Expected | None, unused: int | None) -> list[dict[str, Any]]:
    """The components that can be measured by themselves."""
    load, step = found.readings.get("load"), found.readings.get("optimizer step")
    states = step.now - load.now if load and step else None
    rows = (
        ("weights", expected.phases["load"] if expected else None, load.now if load else None),
        ("optimizer states", expected.states if expected else None, states),
        ("CUDA context and kernels", expected.context if expected else None, found.context),
        ("unused by the allocator", expected.unused if expected else None, unused),
    )
    return [{"name": name, **_pair(planned, measured)} for name, planned, measured in rows]


def _pair(planned: int | None, measured: int | None) -> dict[str, Any]:
    return {"planned": planned, "measured": measured, "difference": difference(measured, planned)}


@dataclass(frozen=True)
class Refused:
    """A batch that did not fit. `phase` of PHASES; `held`: torch's peak in it and `asked`: what it wanted more ("2.50 GiB"), if it said;
    `room`: bytes of the card that this process may have, of `memory` in all."""

    phase: str
    card: str
    memory: int
    room: int
    held: int
    asked: str | None
    others: list[dict[str, Any]]


def refusal(refused: Refused, found: Found, expected: Expected | None, why: str, remedies: list[str]) -> str:
    """One sentence on what did not fit, whose memory is on the card, and what to change."""
    batch = (found.evaluation or found.train) if refused.phase == "evaluation" else found.train
    planned = expected.phases.get(refused.phase) if expected else None
    compared = f"planned for this phase: {_gib(planned)}" if planned else f"no plan to compare: {why or 'none for this phase'}"
    asked = f" when it asked for {refused.asked} more" if refused.asked else ""
    limit = "" if refused.room >= refused.memory else f", of which this run may have {_gib(refused.room)}"
    others = "; ".join(
        f"{printable(str(one.get('user') or 'somebody'))}'s {printable(str(one.get('name') or 'process'))} holds {_gib(one.get('mem'))}"
        for one in refused.others
    )
    change = f"to make it fit, each on top of those before: {'; '.join(remedies)}" if remedies else FALLBACK
    return (
        f"the longest batch ({batch_words(batch)}) does not fit on {printable(refused.card)} ({_gib(refused.memory)}{limit}): in the phase "
        f"{refused.phase} torch held {_gib(refused.held)}{asked} ({compared}){f'; on the card, {others}' if others else ''}; {change}"
    )


def batch_words(batch: Batch) -> str:
    """A batch as people say it: "4 rows of 2,048 tokens"."""
    return f"{batch.rows} {'row' if batch.rows == 1 else 'rows'} of {batch.length:,} tokens"


def _gib(size: int | None) -> str:
    return "an unknown amount" if size is None else f"{size / GIB:.2f} GiB"
