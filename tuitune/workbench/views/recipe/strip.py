"""The line below the text: the problem under the cursor, and what F4 would do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from tuitune.text import printable
from tuitune.workbench.commands.registry import by_id, key_label

if TYPE_CHECKING:
    from tuitune.recipe.problems import Problem


class ProblemStrip(Horizontal):
    """A message that is cut where it must be, and a fix that always stays readable."""

    DEFAULT_CSS = """
    ProblemStrip { height: 1; background: $surface; }
    ProblemStrip > Static { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    ProblemStrip > #strip-message { width: 1fr; }
    ProblemStrip > #strip-fix { width: auto; max-width: 50%; text-style: bold; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.said = ""
        self.fix = ""
        self._message = Static(id="strip-message", markup=False)
        self._fix = Static(id="strip-fix", markup=False)

    def compose(self) -> ComposeResult:
        yield self._message
        yield self._fix

    def show(self, problem: Problem | None, otherwise: str) -> None:
        """The problem, or what there is to say without one."""
        said = printable(problem.message if problem else otherwise)
        fix = f"{key_label(by_id('recipe.fix').keys[0])}: {printable(problem.fix.title)}" if problem and problem.fix else ""
        style = "$text-muted" if problem is None else "" if problem.severity == "info" else f"${problem.severity}"
        if (said, fix) != (self.said, self.fix):
            self.said, self.fix = said, fix
            self._message.update(Content.styled(said, style))
            self._fix.update(fix)
