"""Which checkpoints of a run count: those with our mark, written last, so that a kill in the middle of a save leaves none that is used.

The trainer writes the mark (tuitune.trainer.checkpoints); the hub chooses by it from where a next attempt goes on. Imports no torch.
"""

import json
from pathlib import Path

from tuitune.files import file_hash
from tuitune.runs.directory import RunDirectory
from tuitune.text import printable

MARK = "tuitune-ok.json"
_NAME = "checkpoint-"


def is_complete(folder: Path) -> bool:
    """Whether the mark is there and every file has the size it names (hashes are checked before a resume, not here)."""
    files = marked_files(folder)
    return files is not None and damage(folder, files, hashes=False) is None


def marked_files(folder: Path) -> dict[str, tuple[int, str]] | None:
    """By the mark, what was written: bytes and sha256 of each file. None without a whole mark: the save was never finished."""
    try:
        files = json.loads((folder / MARK).read_bytes())["files"]
        return {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def damage(folder: Path, files: dict[str, tuple[int, str]], *, hashes: bool) -> str | None:
    """The first file that is not what was written, and how it differs, in a sentence; None when all are. hashes: read them through, which
    takes some 1.3 s a GiB; without, only their sizes count."""
    for name, (size, written) in files.items():
        path, where = folder / name, printable(f"{folder.name}/{name}", limit=200)
        try:
            found = path.stat().st_size
            if found != size:
                return f"{where} is not what was written there: it has {found} bytes and had {size}"
            if hashes and (digest := file_hash(path)) != written:
                return f"{where} is not what was written there: its sha256 is {digest[:12]}… and was {written[:12]}…"
        except FileNotFoundError:
            return f"{where} is missing"
        except OSError as error:
            return f"{where} cannot be read ({error.strerror})"
    return None


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
