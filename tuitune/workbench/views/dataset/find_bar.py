"""The line that asks what to search the rows for."""

from __future__ import annotations

import re
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static


class RowFindBar(Horizontal):
    """Enter searches forward, Escape closes. What was searched stays in it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("alt+x", "switch('regex')", show=False),
        Binding("alt+c", "switch('exact')", show=False),
    ]
    DEFAULT_CSS = """
    RowFindBar { display: none; height: 1; background: $panel; }
    RowFindBar > #row-find-label { width: 5; }
    RowFindBar > Input, RowFindBar > Input:focus { border: none; height: 1; width: 1fr; padding: 0; background: $panel; }
    RowFindBar > #row-find-modes { width: auto; padding: 0 1; color: $text-muted; }
    """

    class Wanted(Message):
        """Search for what is typed."""

    class Left(Message):
        """The keyboard is to go back to the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.regex = False
        self.exact = False
        self.input = Input(placeholder="text in any column", select_on_focus=True)
        self.input.cursor_blink = False
        self._modes = Static("", id="row-find-modes", markup=False)

    def compose(self) -> ComposeResult:
        yield Static("find", id="row-find-label")
        yield self.input
        yield self._modes

    def on_mount(self) -> None:
        self._show_modes()

    def open(self) -> None:
        """Show the bar and give it the keyboard, at once: the letters that follow are meant for it."""
        self.display = True
        self.input.select_all()
        self.screen.set_focus(self.input)

    def _show_modes(self) -> None:
        wrong = ""
        if self.regex:
            try:
                re.compile(self.input.value)
            except re.error as error:
                wrong = f"{error} · "
        self._modes.update(f"{wrong}Alt+X: {'regex' if self.regex else 'text'}  Alt+C: {'AaBb only' if self.exact else 'aA alike'}")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._show_modes()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value:
            self.post_message(self.Wanted())

    def action_switch(self, mode: str) -> None:
        """Regex or text; capitals count or not."""
        setattr(self, mode, not getattr(self, mode))
        self._show_modes()

    def action_leave(self) -> None:
        """Escape."""
        self.display = False
        self.post_message(self.Left())
