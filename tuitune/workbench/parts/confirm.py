"""A question over the workbench: a few choices, each with its letter; Enter takes the marked one, Escape the safe one."""

from dataclasses import dataclass

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tuitune.workbench.parts.question import Question


@dataclass(frozen=True)
class Choice:
    """`key` is one letter that takes it at once; `value` is what the question returns."""

    key: str
    label: str
    value: str


class Confirm(Question[str]):
    """Returns the value of a choice, or "" when it was left with Escape. Lines are printable text."""

    BINDINGS = [
        Binding("escape", "leave", show=False),
        Binding("enter", "take", show=False),
        Binding("left,up,shift+tab", "move(-1)", show=False),
        Binding("right,down,tab", "move(1)", show=False),
    ]

    def __init__(self, title: str, lines: list[str], choices: list[Choice]) -> None:
        super().__init__()
        self.question, self.lines, self.choices = title, lines, choices

    def compose(self) -> ComposeResult:
        with Vertical(id="confirm"):
            yield Static(Content.styled(self.question, "bold $foreground"), id="confirm-title")
            if self.lines:
                yield Static(Content("\n".join(self.lines)), id="confirm-lines")
            yield ChoiceLine(self.choices)

    def on_key(self, event: events.Key) -> None:
        for choice in self.choices:
            if event.character and event.character.lower() == choice.key:
                event.stop()
                self.dismiss(choice.value)
                return

    def action_leave(self) -> None:
        """Escape: nothing happens."""
        self.dismiss("")

    def action_take(self) -> None:
        """Enter: the marked choice."""
        self.dismiss(self.choices[self.query_one(ChoiceLine).marked].value)

    def action_move(self, by: int) -> None:
        """Mark another choice."""
        line = self.query_one(ChoiceLine)
        line.marked = (line.marked + by) % len(self.choices)
        line.refresh()


class ChoiceLine(Widget):
    """The choices in one line; the first is marked at first. `Esc cancel` is always the last word."""

    def __init__(self, choices: list[Choice]) -> None:
        super().__init__()
        self.choices = choices
        self.marked = 0
        self._spans: list[tuple[int, int, str]] = []

    def render(self) -> Content:
        pieces: list[Content] = []
        self._spans, column = [], 0
        for index, choice in enumerate(self.choices):
            if index == self.marked:
                piece = Content.styled(f" {choice.label} ⏎ ", "bold $shell-chip-text on $shell-chip")
            else:
                piece = Content.styled(f" {choice.label} ({choice.key}) ", "$foreground on $panel")
            self._spans.append((column, column + piece.cell_length, choice.value))
            column += piece.cell_length + 1
            pieces += [piece, Content(" ")]
        return Content("").join([*pieces, Content.styled(" Esc cancel", "$text-muted")])

    def on_click(self, event: events.Click) -> None:
        for start, end, value in self._spans:
            if start <= event.x < end:
                self.screen.dismiss(value)
                return
