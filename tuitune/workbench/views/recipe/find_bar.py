"""The find bar below the text, and the search itself."""

from __future__ import annotations

import re
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

Place = tuple[int, int]  # (line, column) from 1


def places(text: str, wanted: str) -> list[Place]:
    """Where `wanted` stands in the text; capitals count only when it has some itself."""
    if not wanted:
        return []
    flags = 0 if wanted != wanted.lower() else re.IGNORECASE
    pattern = re.compile(re.escape(wanted), flags)
    return [(number, match.start() + 1) for number, line in enumerate(text.split("\n"), 1) for match in pattern.finditer(line)]


class FindBar(Horizontal):
    """Enter: the next place, Escape: back to the text. `wanted` stays for F3."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]
    DEFAULT_CSS = """
    FindBar { display: none; height: 1; background: $panel; }
    FindBar > #find-label { width: 7; padding: 0 1; }
    FindBar > Input { border: none; height: 1; width: 1fr; padding: 0; background: $panel; }
    FindBar > #find-count { width: 16; padding: 0 1; color: $text-muted; text-align: right; }
    """

    class Wanted(Message):
        """Search for this from the cursor on (`step` 0: the cursor's own place counts)."""

        def __init__(self, text: str, step: int) -> None:
            super().__init__()
            self.text = text
            self.step = step

    class Left(Message):
        """Escape."""

    def __init__(self) -> None:
        super().__init__()
        self._input = Input(placeholder="text to find", select_on_focus=True)
        self._input.cursor_blink = False
        self._count = Static("", id="find-count", markup=False)

    @property
    def wanted(self) -> str:
        """What was searched last."""
        return self._input.value

    def compose(self) -> ComposeResult:
        yield Static("find", id="find-label")
        yield self._input
        yield self._count

    def open(self, text: str) -> None:
        """Show the bar with `text` in it."""
        self.display = True
        if text:
            self._input.value = text
        self._input.focus()

    def show_count(self, index: int, total: int) -> None:
        """`index` from 1, 0 when nothing was found."""
        self._count.update(f"{index} of {total}" if total else "not found" if self.wanted else "")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Wanted(event.value, 0))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Wanted(event.value, 1))

    def action_leave(self) -> None:
        """Escape."""
        self.display = False
        self.post_message(self.Left())
