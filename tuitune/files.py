"""Small file helpers that every package shares: whole-or-nothing writes and the places tuitune keeps things."""

import contextlib
import os
import tempfile
from hashlib import sha256
from pathlib import Path


def write_atomically(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Replace `path` by `data` so that a reader, or a crash at any moment, sees the old file or the new one, never half of one.

    Raises OSError (a full disk among them) with the old file untouched.
    """
    if isinstance(data, str):
        data = data.encode()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def cache_dir() -> Path:
    """Where tuitune caches what it can make again: $XDG_CACHE_HOME/tuitune, else ~/.cache/tuitune (created, 0700)."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuitune"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root


def file_hash(path: Path) -> str:
    """sha256 of a file in hex, read in pieces of 1 MiB."""
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
