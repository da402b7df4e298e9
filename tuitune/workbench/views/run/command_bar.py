"""The line at the bottom of a run's dashboard that takes a command: completes it, and says what it will do before it is sent."""

from collections.abc import Callable
from time import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Static

from tuitune.text import printable
from tuitune.workbench.live_complete import candidates, complete, parse, wrong
from tuitune.workbench.live_words import sentences, when
from tuitune.workbench.parts.gpu_panel import wrapped
from tuitune.workbench.parts.role_lines import Line, Piece, RoleLines
from tuitune.workbench.run_state import RunState


class CommandBar(Vertical):
    """Enter sends when nothing is wrong, Tab completes, Up brings back what was sent before, Escape leaves."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("tab", "complete", show=False),
        Binding("up", "recall", show=False),
    ]
    DEFAULT_CSS = """
    CommandBar { display: none; height: auto; background: $panel; padding: 0 1; }
    CommandBar > Horizontal { height: 1; background: $panel; }
    CommandBar > Horizontal > Static { width: 2; }
    CommandBar Input, CommandBar Input:focus { border: none; height: 1; width: 1fr; padding: 0; background: $panel; }
    """

    class Wanted(Message):
        """Please send this line; it was checked."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Left(Message):
        """The keyboard is to go back to the dashboard."""

    def __init__(self, state: Callable[[], RunState]) -> None:
        super().__init__()
        self._state = state
        self._sent = ""
        self._words = RoleLines([(), ()])
        self.input = Input(placeholder="a command, e.g. set learning_rate=1e-4 kind=hold")
        self.input.cursor_blink = False

    def compose(self) -> ComposeResult:
        yield self._words
        with Horizontal():
            yield Static(":", markup=False)
            yield self.input

    def open(self) -> None:
        """Show the bar and give it the keyboard, at once: the letters that follow are meant for it."""
        self.display = True
        self.input.value = ""
        self.screen.set_focus(self.input)
        self.show_words()

    def show_words(self) -> None:
        """Say what fits next, and what the line will do, by the run as it is now."""
        text = self.input.value
        width = max(20, self.size.width - 2)
        self._words.show([_offers(text, self._state()), *wrapped(*_preview(text, self._state(), width))])

    def on_resize(self) -> None:
        self.show_words()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.show_words()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        text = event.value.strip()
        if not text:
            self.action_leave()
        elif not wrong(text, self._state()):
            self._sent = text
            self.action_leave()
            self.post_message(self.Wanted(text))

    def action_complete(self) -> None:
        """Tab: the rest of the word, as far as it is the only one."""
        self.input.value = complete(self.input.value, self._state())
        self.input.cursor_position = len(self.input.value)

    def action_recall(self) -> None:
        """Up: what was sent last."""
        self.input.value = self._sent
        self.input.cursor_position = len(self._sent)

    def action_leave(self) -> None:
        """Escape."""
        self.display = False
        self.post_message(self.Left())


def _offers(text: str, state: RunState) -> Line:
    """The words that fit next."""
    pieces: list[Piece] = []
    for candidate in candidates(text, state):
        pieces += [(f"{candidate.word} ", "one"), (f"{candidate.detail}  " if candidate.detail else " ", "dim")]
    return tuple(pieces) or (("Enter sends it, Esc leaves", "dim"),)


def _preview(text: str, state: RunState, width: int) -> tuple[str, int, str]:
    """What the line will do and when, or what is wrong with it: (words, width, role)."""
    if not text.strip():
        return "Tab completes, Enter sends, Esc leaves.", width, "dim"
    if sentence := wrong(text, state):
        return printable(sentence), width, "dim" if candidates(text, state) else "warn"
    op, args = parse(text)
    now = time()
    words = [f"{when(state, now)}; it asks first."] if op == "reshape" else sentences(op, args, state, now)
    return " ".join(words), width, "good"
