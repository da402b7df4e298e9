"""The line that asks which of all rows are wanted: a text, a pattern or a token (the grammar is that of `tuitune inspect --find`)."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static


class TokenFindBar(Horizontal):
    """Enter searches, Escape closes."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]
    DEFAULT_CSS = """
    TokenFindBar { display: none; height: 1; background: $panel; }
    TokenFindBar > Static { width: 5; }
    TokenFindBar > Input, TokenFindBar > Input:focus { border: none; height: 1; width: 1fr; padding: 0; background: $panel; }
    """

    class Wanted(Message):
        """Look for `what` in all rows."""

        def __init__(self, what: str) -> None:
            super().__init__()
            self.what = what

    class Left(Message):
        """The keyboard is to go back to the rows."""

    def __init__(self) -> None:
        super().__init__()
        self._input = Input(placeholder="in all rows: a text, /a pattern/, #token id", select_on_focus=True)
        self._input.cursor_blink = False

    def compose(self) -> ComposeResult:
        yield Static("find")
        yield self._input

    def open(self) -> None:
        """Show the bar and give it the keyboard at once: the letters that follow are meant for it."""
        self.display = True
        self._input.select_all()
        self.screen.set_focus(self._input)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.display = False
        self.post_message(self.Wanted(event.value) if event.value else self.Left())

    def action_leave(self) -> None:
        """Escape."""
        self.display = False
        self.post_message(self.Left())
