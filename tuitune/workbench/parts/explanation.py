"""A problem in full: its whole message, where it is, the evidence, what its fix does, and why it matters (the check's documentation)."""

import json
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tuitune.errors import UserError
from tuitune.text import printable
from tuitune.workbench.problem_list import Entry

VALUE = 300  # characters of one value of the evidence
COLOURS = {"error": "$error", "warning": "$warning", "info": "$primary"}


class Explanation(ModalScreen[str]):
    """Returns "fix", "go", or "" when it was only read."""

    BINDINGS = [
        Binding("escape,q,e", "dismiss('')", show=False),
        Binding("enter", "dismiss('go')", show=False, priority=True),
        Binding("f", "dismiss('fix')", show=False),
    ]
    DEFAULT_CSS = """
    Explanation { align: center middle; }
    #explanation { width: 100; max-width: 96%; height: auto; max-height: 90%; background: $surface; border: round $primary; padding: 0 1; }
    #explanation VerticalScroll { height: auto; max-height: 100%; scrollbar-size: 1 1; scrollbar-background: $surface; }
    #explanation Static { height: auto; }
    #explanation-title { margin-bottom: 1; }
    """

    def __init__(self, entry: Entry, documentation: str) -> None:
        super().__init__()
        self.entry, self.documentation = entry, documentation
        self._scroll = VerticalScroll(Static(explained(entry, documentation)))

    def compose(self) -> ComposeResult:
        keys = f"   Enter goes there{', f fixes it' if self.entry.fix else ''}, Esc closes"
        name = (self.entry.id, f"bold {COLOURS[self.entry.severity]}")
        with Vertical(id="explanation"):
            yield Static(Content.assemble(name, f" {self.entry.severity}", (keys, "$text-muted")), id="explanation-title")
            yield self._scroll

    def on_mount(self) -> None:
        self._scroll.focus()


def explained(entry: Entry, documentation: str) -> Content:
    """Message, place, evidence, fix and documentation as paragraphs."""
    pieces: list[tuple[str, str]] = [(f"{printable(entry.message, newlines=True)}\n", ""), (f"{entry.place}\n", "$text-muted")]
    evidence = entry.finding.evidence if entry.finding else {}
    if evidence:
        pieces += [("\nEvidence\n", "bold"), *((f"  {printable(str(name))}: {_value(value)}\n", "") for name, value in evidence.items())]
    if entry.fix:
        pieces += [("\nFix\n", "bold"), (f"  {printable(entry.fix)}\n", "$success")]
    if documentation:
        pieces += [("\nWhy\n", "bold"), (documentation, "")]
    return Content.assemble(*pieces)


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return printable(text, limit=VALUE)


def documentation(id: str) -> str:
    """What a check's docstring, or the list of a recipe's problems, says about an id; "" for any other. Imports all checks."""
    from tuitune.preflight.registry import find_check
    from tuitune.recipe.problems import CODES

    try:
        return CODES[id] if id in CODES else find_check(id).explanation
    except UserError:
        return ""
