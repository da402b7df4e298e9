"""How long steps took in this box's own runs: kept in the calibration file beside what memory they took, by card, model and method.

Delete the file and plans are as before. Imports no torch.
"""

import json
import math
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

from tuitune.files import write_atomically
from tuitune.memory.calibration import KEPT, Box, calibration_file, read_document
from tuitune.memory.settings import Settings
from tuitune.memory.shape import Shape

APART = ("accumulation", "scored", "sums", "eval_batch", "eval_length", "expandable", "padded")  # of the settings: no matter to the pace
LONGEST = 86_400.0  # seconds; no step of a micro-batch takes a day


@dataclass(frozen=True)
class Pace:
    """Seconds of a micro-batch, forward and backward, with its share of the optimizer's step: the median, fastest and slowest of `runs`
    runs, each of which gave the median of its steps."""

    seconds: float
    fastest: float
    slowest: float
    runs: int


def key_of(shape: Shape, settings: Settings) -> str:
    """What has to be the same for a run's pace to be another's: the model's sizes, the method, and the micro-batch."""
    apart = APART if settings.gpus > 1 else (*APART, "gpus", "spread")  # of one GPU as it was before there were several
    method = {name: value for name, value in asdict(settings).items() if name not in apart}
    said = [shape.family, shape.parameters, shape.layers, method]
    digest = sha256(json.dumps(said, sort_keys=True, default=list).encode()).hexdigest()[:16]
    return f"{shape.family} {shape.parameters} {settings.task} {settings.batch} × {settings.length} {digest}"


def keep_pace(box: Box, run: str, key: str, seconds: float, file: Path | None = None) -> None:
    """Put a run's pace into the calibration file. One that cannot be true is left out. OSError when the disk refuses."""
    if _seconds(seconds) is None:
        return
    path = file or calibration_file()
    document = read_document(path)
    runs = _runs(document, box)
    runs.pop(run, None)
    newest = dict(list({**runs, run: {"key": key, "seconds": seconds}}.items())[-KEPT:])
    known = document.get("paces")
    paces = {**(known if isinstance(known, dict) else {}), box.key: newest}
    write_atomically(path, json.dumps({**document, "schema": 1, "paces": paces}, indent=1) + "\n", mode=0o600)


def read_pace(box: Box | None, key: str, file: Path | None = None) -> Pace | None:
    """What runs of this key took on `box`; None when there are none, or the file cannot be read."""
    if box is None:
        return None
    try:
        path = file or calibration_file()
    except OSError:
        return None
    found = [float(entry["seconds"]) for entry in _runs(read_document(path), box).values() if entry["key"] == key]
    return Pace(median(found), min(found), max(found), len(found)) if found else None


def _runs(document: dict[str, Any], box: Box) -> dict[str, dict[str, Any]]:
    """The entries of a box that can be true, oldest first."""
    paces = document.get("paces")
    entries = paces.get(box.key) if isinstance(paces, dict) else None
    if not isinstance(entries, dict):
        return {}
    return {
        name: {"key": entry["key"], "seconds": entry["seconds"]}
        for name, entry in entries.items()
        if isinstance(entry, dict) and isinstance(entry.get("key"), str) and _seconds(entry.get("seconds")) is not None
    }


def _seconds(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number and 0 < value < LONGEST else None
