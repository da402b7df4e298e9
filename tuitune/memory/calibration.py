"""What this box's own runs have measured: a small JSON file in the cache that later plans read. Delete it and plans are as before.

Two figures depend on driver, torch and card more than on the model: what the CUDA context takes, and how much the allocator holds that
nobody uses. Each run leaves both, by card, driver and torch version; a plan takes the median of the last runs. (How long steps took stands
in the same file: tuitune.memory.pace.) Imports no torch.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tuitune.files import cache_dir, write_atomically
from tuitune.versions import installed

KEPT = 32  # runs of a box that count, the newest
MOST_CONTEXT = 8 << 30  # bytes; more is no CUDA context but somebody else's memory
LEAST_PEAK = 1 << 30  # bytes; below it the allocator's blocks of 2 and 20 MiB say nothing about large runs


@dataclass(frozen=True)
class Box:
    """What the figures belong to. Card and driver by NVML's names, torch by its package version."""

    card: str
    driver: str
    torch: str

    @property
    def key(self) -> str:
        """Its name in the file."""
        return f"{self.card}, driver {self.driver}, torch {self.torch}"


@dataclass(frozen=True)
class Measured:
    """What one run found. `context` in bytes; `unused`: the allocator's unused part as a share of the allocated peak. None: not known."""

    context: int | None
    unused: float | None


@dataclass(frozen=True)
class Calibration:
    """The medians over `runs` runs, and the file they come from. None: no run has measured it."""

    context: int | None
    unused: float | None
    runs: int
    file: Path


def calibration_file() -> Path:
    """Where the figures of this box are kept."""
    return cache_dir() / "memory-calibration.json"


def box_of(card: str | None, driver: str | None) -> Box | None:
    """The box for a card and driver as NVML names them and the installed torch; None when one of them is not known."""
    torch = installed(("torch",))["torch"]
    return Box(card, driver, torch) if card and driver and torch else None


def read_calibration(box: Box | None, file: Path | None = None) -> Calibration | None:
    """What runs on `box` have measured; None when there are none, or the file is missing, broken or in a cache that cannot be reached."""
    if box is None:
        return None
    try:
        path = file or calibration_file()
    except OSError:
        return None
    runs = list(_runs(read_document(path), box).values())
    contexts = [run.context for run in runs if run.context is not None]
    shares = [run.unused for run in runs if run.unused is not None]
    if not contexts and not shares:
        return None
    return Calibration(int(median(contexts)) if contexts else None, median(shares) if shares else None, len(runs), path)


def keep_measured(box: Box, run: str, measured: Measured, file: Path | None = None) -> None:
    """Put what `run` has measured into the file, in the place of what it left before. Figures that cannot be true are left out; a broken
    file is begun anew. OSError when the disk refuses."""
    path = file or calibration_file()
    document = read_document(path)
    runs = _runs(document, box)
    runs.pop(run, None)
    found = _sound({"context": measured.context, "unused": measured.unused})
    if found is None:
        return
    runs[run] = found
    newest = dict(list(runs.items())[-KEPT:])
    boxes = document["boxes"] | {box.key: {name: {"context": one.context, "unused": one.unused} for name, one in newest.items()}}
    write_atomically(path, json.dumps({**document, "schema": 1, "boxes": boxes}, indent=1) + "\n", mode=0o600)


def unused_share(allocated: int, reserved: int, explained: int) -> float | None:
    """The allocator's unused part as a share of what is allocated, from the peaks of a run in bytes. `explained`: what of it the plan
    knows to lie idle. None for a peak too small to say anything."""
    return None if allocated < LEAST_PEAK else max(0.0, (reserved - allocated - explained) / allocated)


def read_document(path: Path) -> dict[str, Any]:
    """The file with at least {"boxes": {}}, whatever is in it."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {"boxes": {}}
    if not isinstance(document, dict) or document.get("schema") != 1 or not isinstance(document.get("boxes"), dict):
        return {"boxes": {}}
    return document


def _runs(document: dict[str, Any], box: Box) -> dict[str, Measured]:
    """The runs of a box that can be true, oldest first."""
    entries = document["boxes"].get(box.key)
    if not isinstance(entries, dict):
        return {}
    return {name: found for name, entry in entries.items() if (found := _sound(entry)) is not None}


def _sound(entry: Any) -> Measured | None:
    """An entry's figures without those that cannot be true; None when nothing is left."""
    if not isinstance(entry, dict):
        return None
    context, unused = _number(entry.get("context"), MOST_CONTEXT), _number(entry.get("unused"), 1.0)
    context = None if context == 0 else context
    return None if context is None and unused is None else Measured(None if context is None else int(context), unused)


def _number(value: Any, most: float) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number and 0 <= value < most else None
