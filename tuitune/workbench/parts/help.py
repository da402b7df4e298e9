"""The help page: every key that holds for the active view, made from the registry."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tuitune.workbench.commands import registry
from tuitune.workbench.widgets.line_list import LineList

TITLES = {
    "recipe": "In a recipe",
    "tokens": "Where the tokens are seen",
    "template": "At the chat template",
    "problems": "In the list of problems",
    "run": "In a run's dashboard",
    "runs": "In the table of runs",
    "data": "In a data file",
    "text": "In a text",
}


class Help(ModalScreen[None]):
    """Escape, q or the key that opened it closes it."""

    BINDINGS = [Binding("escape,q,alt+question_mark,f1", "dismiss(None)", show=False)]

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self._list = LineList()

    def compose(self) -> ComposeResult:
        with Vertical(id="help"):
            yield Static(Content.assemble(("Keys", "bold $primary"), ("   ↑ ↓ scroll, Esc closes; F1 lists all commands", "$text-muted")))
            yield self._list

    def on_mount(self) -> None:
        self._list.show(help_lines(self.kind))
        self._list.focus()


def help_lines(kind: str) -> list[Content]:
    """The commands with keys: the view's own first, then those that hold everywhere."""
    lines: list[Content] = []
    for title, when in ((TITLES.get(kind, ""), kind), ("Everywhere", registry.ALWAYS)):
        found = [command for command in registry.all_commands() if command.keys and when in command.when.split()]
        if found and title:
            lines += [Content(""), Content.styled(title, "bold $foreground")]
            lines += [
                Content.assemble(
                    (f" {registry.keys_label(command):<18}", "$primary"), f" {command.title:<24}", (f" {command.help}", "$text-muted")
                )
                for command in found
            ]
    return lines[1:]
