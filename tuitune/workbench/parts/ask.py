"""A question that is answered with a line of text. Enter takes it, Escape leaves."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from tuitune.workbench.parts.question import Question


class Ask(Question[str]):
    """Returns the text, "" when it was left. `hint` is printable text."""

    BINDINGS = [Binding("escape", "leave", show=False, priority=True)]
    DEFAULT_CSS = """
    Ask { align: center middle; }
    #ask { width: 72; max-width: 90%; height: auto; padding: 1 2; background: $surface; border: round $primary; }
    #ask Static { height: auto; }
    #ask Input { border: none; height: 1; padding: 0; margin-top: 1; background: $panel; }
    """

    def __init__(self, title: str, hint: str, text: str = "") -> None:
        super().__init__()
        self._title, self._hint = title, hint
        self._input = Input(text, select_on_focus=True)
        self._input.cursor_blink = False

    def compose(self) -> ComposeResult:
        with Vertical(id="ask"):
            yield Static(Content.styled(self._title, "bold $foreground"))
            yield Static(Content.styled(self._hint, "$text-muted"))
            yield self._input

    def on_mount(self) -> None:
        self._input.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        """Escape: nothing happens."""
        self.dismiss("")
