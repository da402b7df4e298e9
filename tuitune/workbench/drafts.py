"""Unsaved text kept aside when the workbench has to go: a lost line, the box shutting down, a fault of ours."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tuitune.files import write_atomically
from tuitune.workbench.views.view import View, draft_file


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
