"""Which checkpoints of a run count: those with our mark, written last, so that a kill in the middle of a save leaves none that is used.

The trainer writes the mark (tuitune.trainer.checkpoints); the hub chooses by it from where a next attempt goes on. Imports no torch.
"""

import json
from pathlib import Path

from tuitune.runs.directory import RunDirectory

MARK = "tuitune-ok.json"
_NAME = "checkpoint-"


def is_complete(folder: Path) -> bool:
    """Whether the mark is there and every file has the size it names (hashes are checked before a resume, not here)."""
    try:
        document = json.loads((folder / MARK).read_bytes())
        return all((folder / name).stat().st_size == entry["bytes"] for name, entry in document["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def checkpoints_of(run: RunDirectory) -> list[Path]:
    """The run's checkpoint folders, whole or not, the one of the latest step first. OSError when the folder cannot be read."""
    try:
        folders = [path for path in run.checkpoints.iterdir() if step_of(path) is not None and path.is_dir()]
    except FileNotFoundError:
        return []
    return sorted(folders, key=lambda path: step_of(path) or 0, reverse=True)


def step_of(folder: Path) -> int | None:
    """The step that a checkpoint's name tells, or None for another name."""
    digits = folder.name.removeprefix(_NAME)
    return int(digits) if folder.name.startswith(_NAME) and digits.isascii() and digits.isdecimal() and len(digits) < 16 else None
