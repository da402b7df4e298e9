"""Unsaved text kept aside when the workbench has to go: a lost line, the box shutting down, a fault of ours.

A draft is an offer, never a need: where the cache cannot be read or written there is none. It stays until its text is saved or given
up, so that whoever is lost a second time still has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from tuitune.files import cache_dir, write_atomically

if TYPE_CHECKING:
    from tuitune.workbench.views.view import View


@dataclass(frozen=True)
class Draft:
    """Text that was not saved; `mtime_ns` says when it was kept, `file` where it is."""

    text: str
    mtime_ns: int
    file: Path


def draft_file(path: Path) -> Path:
    """Where the unsaved text of `path` is kept: cache_dir()/drafts/<hash>.txt (the folder is created, 0700). OSError where it cannot be."""
    folder = cache_dir() / "drafts"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{sha256(str(path).encode('utf-8', 'surrogateescape')).hexdigest()[:24]}.txt"


def keep_drafts(views: Iterable[View]) -> list[Path]:
    """Write the unsaved text of each view to its draft file (0600); the files written. Never raises."""
    kept = []
    for view in views:
        with suppress(Exception):  # one broken view must not cost the others their text
            if (text := view.draft_text()) is not None:
                file = draft_file(view.path)
                write_atomically(file, text.encode("utf-8", "surrogatepass"), mode=0o600)
                kept.append(file)
    return kept


def read_draft(path: Path) -> Draft | None:
    """What was kept of `path`, None when there is nothing that can be read."""
    try:
        file = draft_file(path)
        return Draft(file.read_text(encoding="utf-8"), file.stat().st_mtime_ns, file)
    except (OSError, UnicodeDecodeError):
        return None


def forget_draft(path: Path) -> None:
    """The text is saved or given up."""
    with suppress(OSError):
        draft_file(path).unlink(missing_ok=True)
