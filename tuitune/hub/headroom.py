"""What a run holds of a GPU's memory now, and the most that it will hold: a job beside it may take what is left of the card then.

What is free at one moment says little of a training: its peak comes in the backward pass of its longest batch, or at its evaluation.
Imports no torch.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuitune.bus.envelope import as_number
from tuitune.bus.journal import last_records, read_records
from tuitune.errors import NotHere, UserError
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Manifest, read_manifest

FRESH_S = 10.0  # a hub samples the cards once a second
CONTEXT = "CUDA context and kernels"  # of a proof's components


@dataclass(frozen=True)
class Holding:
    """Bytes of one card that a run has: `now` (None: not to be seen), and at its `peak` (None: nobody knows yet). `known_from`: a few words
    on where the peak is from; `free_it`: what to do to have the card without that run."""

    now: int | None
    peak: int | None
    known_from: str
    free_it: str = "wait for its end"

    @property
    def to_come(self) -> int:
        """Bytes that it does not hold yet and will; all of its peak when nobody sees what it holds."""
        return max(0, (self.peak or 0) - (self.now or 0))


def holding(run: Path, uuid: str) -> Holding:
    """What the run in the folder `run` has of the card `uuid`, by its journals, its plan or, of a job, what it said it needs."""
    directory = RunDirectory(run)
    try:
        manifest = read_manifest(directory)
    except UserError:
        return Holding(None, None, "it has no manifest")
    seen = _on_card(directory, uuid)
    if manifest.kind != "train":
        told, stop = manifest.job.get("gpu_bytes"), f"stop it (tuitune send {run.name} stop), or wait for its end"
        return Holding(seen, max(told, seen or 0) if isinstance(told, int) else None, "what it asked for", stop)
    now, peak, known_from = _of_training(directory, manifest, uuid, seen)
    return Holding(now, peak, known_from, f"suspend it (tuitune send {run.name} pause mode=suspend), or wait for its end")


def _of_training(directory: RunDirectory, manifest: Manifest, uuid: str, seen: int | None) -> tuple[int | None, int | None, str]:
    """(bytes now, at the peak, where that is from); `seen`: what its hub sees on the card."""
    proof, reserved, peak_reserved = _recorded(directory.journal / f"trainer-{manifest.attempt}.jsonl")
    context = _context(proof)
    if seen is None and reserved is not None:
        seen = reserved + context
    proven = _proven(proof)
    recorded = max((one for one in (proven, peak_reserved) if one is not None), default=None)
    found = [one for one in (None if recorded is None else recorded + context, seen) if one is not None]
    if proven is not None:
        return seen, max(found), "its own measurement"
    planned = _planned(directory, manifest, uuid)
    if planned is not None:
        return seen, max(planned, *found) if found else planned, "its memory plan"
    return seen, None if recorded is None else max(found), "its steps so far"


def _on_card(run: RunDirectory, uuid: str) -> int | None:
    """Bytes of the run's processes by the last sample of its hub; None where the driver hides whose memory it is, or the hub is gone."""
    for record in reversed(last_records(run.journal / "hub.jsonl")[0]):
        if record.get("ev") == "gpu":
            if time.time() - (as_number(record.get("t")) or 0) > FRESH_S:
                return None
            devices = record.get("devices")
            found = [one for one in devices if one.get("uuid") == uuid] if isinstance(devices, list) else []
            return _bytes(found[0].get("proc_mem")) if found else None
    return None


def _recorded(journal: Path) -> tuple[Mapping[str, Any], int | None, int | None]:
    """(the attempt's proof, {} without one; torch's memory at its last log; the most that torch has had, on any of its cards)."""
    proof: Mapping[str, Any] = {}
    reserved, most = None, None
    for record in read_records(journal, ("proof", "metrics")):
        if record["ev"] == "proof":
            proof = record
            continue
        ranks = record.get("mem_ranks") or [record.get("mem")]
        peaks = [size for one in ranks if isinstance(one, Mapping) and (size := _bytes(one.get("peak_reserved"))) is not None]
        own = record.get("mem")
        reserved = _bytes(own.get("reserved")) if isinstance(own, Mapping) else None
        most = max([*peaks, *([] if most is None else [most])], default=None)
    return proof, reserved, most


def _proven(proof: Mapping[str, Any]) -> int | None:
    """The most that torch had in the proof of the longest batch, evaluation included; None when nothing was measured."""
    sizes = [_bytes(phase.get("reserved")) for phase in proof.get("phases", ()) if isinstance(phase, Mapping)]
    return max((size for size in sizes if size is not None), default=None)


def _context(proof: Mapping[str, Any]) -> int:
    """Bytes of the process outside of torch: measured, or the usual figure."""
    from tuitune.memory.settings import Device

    rows = [row for row in proof.get("components", ()) if isinstance(row, Mapping) and row.get("name") == CONTEXT]
    found = next((_bytes(row.get("measured")) for row in rows), None)
    return Device().context if found is None else found


def _planned(run: RunDirectory, manifest: Manifest, uuid: str) -> int | None:
    """The peak by the memory plan; None where there is none for this recipe."""
    # preflight imports tuitune.hub.lease, which imports this module
    from tuitune.memory.calibration import box_of, read_calibration
    from tuitune.memory.plan import plan
    from tuitune.memory.settings import device
    from tuitune.planning import plan_recipe, settled
    from tuitune.preflight.cards import this_box
    from tuitune.recipe.recipe import load_recipe
    from tuitune.recipe.schema import load_schema

    card = this_box(uuid)
    try:
        recipe = load_recipe(run.recipe, base=Path(manifest.recipe_path).parent if manifest.recipe_path else run.path)
        for section, values in manifest.overrides.items():
            getattr(recipe, section).update(values)
        planned = plan_recipe(settled(recipe, card)[0], load_schema(), card)
        return plan(planned.shape, planned.settings, device(card.capability, read_calibration(box_of(card.name, card.driver)))).needed
    except (UserError, NotHere):
        return None


def _bytes(value: object) -> int | None:
    number = None if isinstance(value, bool) else as_number(value)
    return int(number) if number is not None and number >= 0 else None
