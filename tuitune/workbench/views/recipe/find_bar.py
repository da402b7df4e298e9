"""Find in a recipe: the search itself, and the bar below the text that asks for it."""

from __future__ import annotations

import re
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static

from tuitune.workbench.widgets.code_editor import CodeEditor

Place = tuple[int, int]  # (row, column) from 0, as TextArea counts


def places(text: str, wanted: str, *, exact: bool = False) -> list[Place]:
    """Where `wanted` stands in the text. exact: capitals count."""
    if not wanted:
        return []
    pattern = re.compile(re.escape(wanted), 0 if exact else re.IGNORECASE)
    return [(row, match.start()) for row, line in enumerate(text.split("\n")) for match in pattern.finditer(line)]


class FindBar(Horizontal):
    """Enter: the next place, Escape: back to the text. What was searched stays for F3."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("down", "step(1)", show=False),
        Binding("up", "step(-1)", show=False),
        Binding("alt+c", "exact", show=False),
    ]
    DEFAULT_CSS = """
    FindBar { display: none; height: 1; background: $panel; }
    FindBar > #find-label { width: 6; padding: 0 1; }
    FindBar > Input, FindBar > Input:focus { border: none; height: 1; width: 1fr; padding: 0; background: $panel; }
    FindBar > #find-count { width: auto; padding: 0 1; }
    FindBar > #find-exact { width: auto; padding: 0 1; color: $text-muted; }
    """

    def __init__(self, code: CodeEditor) -> None:
        super().__init__()
        self.exact = False
        self._code = code
        self._input = Input(placeholder="text to find", select_on_focus=True)
        self._input.cursor_blink = False
        self._count = Static("", id="find-count", markup=False)
        self._exact = Static("", id="find-exact", markup=False)

    @property
    def wanted(self) -> str:
        """What was searched last."""
        return self._input.value

    def compose(self) -> ComposeResult:
        yield Static("find", id="find-label")
        yield self._input
        yield self._count
        yield self._exact

    def on_mount(self) -> None:
        self._show_exact()

    def open(self, text: str) -> None:
        """Show the bar with `text` in it."""
        self.display = True
        if text:
            self._input.value = text
        self._input.select_all()
        self.screen.set_focus(self._input)  # at once: the letters that follow in the same burst are meant for it

    def step(self, by: int) -> None:
        """Select the next (1) or previous (-1) place, round the end; 0: the first one from the cursor's own place on."""
        found = places("\n".join(self._code.document.lines), self.wanted, exact=self.exact)
        if not found:
            self._count.update("not found" if self.wanted else "")
            return
        here = min(self._code.selection)
        ahead = [place for place in found if place > here or (by == 0 and place == here)]
        behind = [place for place in found if place < here]
        place = (behind or found)[-1] if by < 0 else (ahead or found)[0]
        self._code.move_cursor(place, center=True)
        self._code.move_cursor((place[0], place[1] + len(self.wanted)), select=True)
        self._count.update(f"{found.index(place) + 1}/{len(found)}")

    def _show_exact(self) -> None:
        self._exact.update("Alt+C: AaBb only" if self.exact else "Alt+C: aA alike")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.step(0)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.step(1)

    def action_step(self, by: int) -> None:
        """Up and down."""
        self.step(by)

    def action_exact(self) -> None:
        """Whether capitals count."""
        self.exact = not self.exact
        self._show_exact()
        self.step(0)

    def action_leave(self) -> None:
        """Escape: the place that was found stays selected."""
        self.display = False
        self.screen.set_focus(self._code)
