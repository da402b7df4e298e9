"""A checkpoint counts only with our mark, written last: a kill in the middle of a save leaves a folder that nobody resumes from."""

import errno
import json
import time
from pathlib import Path

from tuitune.files import file_hash, write_atomically
from tuitune.runs.checkpoints import MARK

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # full, quota, read-only, too large: the user's to mend


def mark_complete(folder: Path, step: int) -> int:
    """Write the mark with size and sha256 of every file; returns the checkpoint's bytes. Takes some 1.3 s a GiB. OSError when the disk
    refuses."""
    files = {}
    for path in sorted(item for item in folder.rglob("*") if item.is_file() and item.name != MARK):
        files[str(path.relative_to(folder))] = {"bytes": path.stat().st_size, "sha256": file_hash(path)}
    write_atomically(folder / MARK, json.dumps({"schema": 1, "step": step, "written": time.time(), "files": files}, indent=1))
    return sum(entry["bytes"] for entry in files.values())  # type: ignore[misc]


def disk_refusal(error: BaseException) -> str | None:
    """Why the disk refused a write, or None when the error is another (no permission, a folder that is gone: faults that stay).
    safetensors and torch tell a full disk in classes of their own."""
    if isinstance(error, OSError):
        return (error.strerror or str(error)) if error.errno in DISK else None
    text = str(error)
    if type(error).__name__ == "SafetensorError" and "I/O error" in text:
        return text.partition("I/O error: ")[2] or text
    if isinstance(error, RuntimeError) and ("PytorchStreamWriter failed" in text or "unexpected pos" in text):
        return "the file could not be written whole"
    return None
