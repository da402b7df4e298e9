"""Text to the clipboard of the user's own machine: OSC 52, the one way that works over SSH. Terminals give no answer to it.

What is longer than terminals take goes into a file, and the user is told (workbench.md B3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuitune.files import cache_dir, write_atomically

if TYPE_CHECKING:
    from textual.app import App

LONGEST = 74_000  # bytes; tmux and some terminals drop longer sequences without a word


def copy(app: App[int], text: str, what: str) -> None:
    """Copy `text`, called `what` in the message."""
    data = text.encode("utf-8", "replace")
    if len(data) <= LONGEST:
        app.copy_to_clipboard(text)
        app.notify(f"{what} copied, if this terminal takes it (OSC 52; in tmux: set -g set-clipboard on).")
        return
    path = cache_dir() / "clip"
    try:
        write_atomically(path, data, mode=0o600)
    except OSError as error:
        app.notify(
            f"{what} ({len(data):,} bytes) is too long for the clipboard, and {path} cannot be written: {error.strerror}", severity="error"
        )
        return
    app.notify(f"{what} ({len(data):,} bytes) is too long for a terminal's clipboard; it is in {path}.")
