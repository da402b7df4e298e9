"""What the workbench expects of everything that lives in an editor tab.

A view is made from a path alone, so that a tab is two words of data: kind and path. Views never reach into the shell; they post the
messages below, and the shell calls the methods. Imports no other view.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tuitune.text import printable
from tuitune.workbench.commands import registry

if TYPE_CHECKING:
    from tuitune.preflight.finding import Fix
    from tuitune.recipe.problems import Problem


@dataclass(frozen=True)
class Symbol:
    """A place that `@` in quick open jumps to; `line` and `column` from 1, `detail` is shown dimmed."""

    name: str
    line: int
    column: int = 1
    detail: str = ""
    depth: int = 0


class View(Widget):
    """One editor tab. `kind` is what a command's `when` refers to; `key` is unique ("recipe:/abs/path").

    Commands of the registry that hold for the kind reach the view's `action_…` methods. Their plain keys (letters, arrows) become
    bindings of the view, so they count only while the keyboard is in it; the others are the app's and count everywhere.
    """

    kind: ClassVar[str] = ""
    commands: ClassVar[tuple[registry.Command, ...]] = ()
    DEFAULT_CSS = "View { width: 1fr; height: 1fr; }"

    dirty: reactive[bool] = reactive(False, init=False)
    """Unsaved changes: the tab shows ●, closing asks."""
    breadcrumb: reactive[str] = reactive("", init=False)
    """The line under the tabs, e.g. "training › learning_rate"; printable text, no markup."""
    status: reactive[str] = reactive("", init=False)
    """A few words for the status bar, e.g. "Ln 12, Col 3"; printable text, no markup."""

    class ProblemsChanged(Message):
        """The whole list of this view's problems, sorted by position; replaces the last one."""

        def __init__(self, view: View, problems: list[Problem]) -> None:
            super().__init__()
            self.view = view
            self.problems = problems

    class OpenRequested(Message):
        """Please open another view, e.g. OpenRequested("run", run_path)."""

        def __init__(self, kind: str, path: Path) -> None:
            super().__init__()
            self.kind = kind
            self.path = path

    class ChangeRequested(Message):
        """Please write a change into a recipe, as a finding's fix is written; `text`: the recipe that the view has read."""

        def __init__(self, path: Path, text: str, change: Fix) -> None:
            super().__init__()
            self.path = path
            self.text = text
            self.change = change

    class RunNews(Message):
        """The view's run has news for the panel: commands, or answers of its model."""

        def __init__(self, view: View) -> None:
            super().__init__()
            self.view = view

    class OutputLine(Message):
        """A line for the OUTPUT panel; the shell makes it printable."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class StateChanged(Message):
        """dirty, title, breadcrumb or status changed: the shell redraws tabs, breadcrumb line and status bar."""

        def __init__(self, view: View) -> None:
            super().__init__()
            self.view = view

    def __init_subclass__(cls, *args: Any, **kwargs: Any) -> None:
        plain: list[BindingType] = [
            Binding(key, f"command('{command.id}')", command.title, show=False)
            for command in registry.all_commands()
            if cls.kind in command.when.split()
            for key in command.keys
            if registry.is_plain(key)
        ]
        cls.BINDINGS = [*cls.__dict__.get("BINDINGS", ()), *plain]
        super().__init_subclass__(*args, **kwargs)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.checked = True  # False while `problems` is not known yet
        self.problems: list[Problem] = []
        """The last list posted with ProblemsChanged; F8, Run and the status bar read it."""

    async def action_command(self, command_id: str) -> None:
        """A plain key of the registry was pressed in this view."""
        handler = registry.by_id(command_id).handler
        await self.run_action(handler if hasattr(self, f"action_{handler}") else f"app.{handler}")

    @property
    def key(self) -> str:
        """Unique among open views: kind and path."""
        return f"{self.kind}:{self.path}"

    @property
    def title(self) -> str:
        """The tab's name, printable."""
        return printable(self.path.name)

    def set_problems(self, problems: list[Problem]) -> None:
        """Keep and post the view's problems."""
        self.problems = problems
        self.post_message(self.ProblemsChanged(self, problems))

    async def save(self) -> bool:
        """Write to disk; True when what is on screen is now on disk. A failure is told to the user by the view itself."""
        return True

    def close_guard(self) -> str | None:
        """The question to ask before this view is closed, or None when nothing would be lost."""
        return f"{self.title} has changes that are not saved." if self.dirty else None

    def draft_text(self) -> str | None:
        """Unsaved text worth keeping when the terminal hangs up; None when there is none.

        The shell writes it to a draft (drafts.py); a view finds it there when the file is opened again and offers it.
        """
        return None

    def give_up(self) -> None:
        """The user closes the view and wants nothing of it kept."""

    def shown_text(self) -> str | None:
        """The text with its unsaved changes, lines ended by "\\n", for views that edit one."""
        return None

    def reread(self) -> None:
        """The workbench itself has written the file: show what it is now."""

    def symbols(self) -> list[Symbol]:
        """The places `@` in quick open offers."""
        return []

    def go_to(self, line: int, column: int = 1) -> None:
        """Move the cursor to a place (from 1) and show it."""

    def show_row(self, row: int) -> None:
        """Show a row of the training data, by its number from 0, for views of a recipe's rows."""

    def find(self, text: str) -> None:
        """Go to the next place that holds a text, for views that `#` in quick open searches."""

    def focus_content(self) -> None:
        """Give the keyboard to what the user works with in this view."""
        self.focus()

    def flush(self) -> None:
        """Bring `problems` up to date now (a view that validates after a pause does it at once); called before a run starts."""

    def watch_dirty(self) -> None:
        self._announce()

    def watch_breadcrumb(self) -> None:
        self._announce()

    def watch_status(self) -> None:
        self._announce()

    def _announce(self) -> None:
        if self.is_attached:
            self.post_message(self.StateChanged(self))
