"""A checkpoint counts only with our mark, written last: a kill in the middle of a save leaves a folder that nobody resumes from."""

import json
import time
from pathlib import Path

from tuitune.files import file_hash, write_atomically

MARK = "tuitune-ok.json"


def mark_complete(folder: Path, step: int) -> int:
    """Write the mark with size and sha256 of every file; returns the checkpoint's bytes. OSError when the disk refuses."""
    files = {}
    for path in sorted(item for item in folder.rglob("*") if item.is_file() and item.name != MARK):
        files[str(path.relative_to(folder))] = {"bytes": path.stat().st_size, "sha256": file_hash(path)}
    write_atomically(folder / MARK, json.dumps({"schema": 1, "step": step, "written": time.time(), "files": files}, indent=1))
    return sum(entry["bytes"] for entry in files.values())  # type: ignore[misc]


def is_complete(folder: Path) -> bool:
    """Whether the mark is there and every file has the size it names (hashes are checked before a resume, not here)."""
    try:
        document = json.loads((folder / MARK).read_bytes())
        return all((folder / name).stat().st_size == entry["bytes"] for name, entry in document["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False
