"""The smallest view that keeps the contract of a recipe editor: a text, its problems, dirt. Lets the shell be tested by itself."""

from pathlib import Path

from textual.app import ComposeResult
from textual.widgets import Input

from tuitune.recipe.problems import Problem
from tuitune.workbench.views.view import Symbol, View


class PlainRecipe(View):
    """One line of text added below the file's own; "error" and "warning" in it are problems."""

    kind = "recipe"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.cursor = (1, 1)
        self._before = path.read_text()

    def compose(self) -> ComposeResult:
        yield Input(select_on_focus=False)

    @property
    def added(self) -> str:
        return self.query_one(Input).value

    def focus_content(self) -> None:
        self.query_one(Input).focus()

    def on_input_changed(self) -> None:
        self.dirty = bool(self.added)
        self.breadcrumb = f"training › {self.added}" if self.added else ""
        self.flush()

    def flush(self) -> None:
        lines = [(line, word) for line, word in enumerate(self.added.split(), 1) if word in ("error", "warning")]
        self.set_problems([Problem("RCP999", word, f"this is an {word}", line, 3, 5, (), None) for line, word in lines])

    async def save(self) -> bool:
        if "unwritable" in self.added:
            self.app.notify("The disk is full.", severity="error")
            return False
        self.path.write_text(self._before + f"# {self.added}\n")
        self._before = self.path.read_text()
        self.query_one(Input).value = ""
        self.dirty = False
        return True

    def shown_text(self) -> str:
        return self.draft_text() or self._before

    def draft_text(self) -> str | None:
        return self._before + f"# {self.added}\n" if self.dirty else None

    def symbols(self) -> list[Symbol]:
        return [Symbol("model", 3), Symbol("name_or_path", 4, 3, "HuggingFaceTB/…", 1)]

    def go_to(self, line: int, column: int = 1) -> None:
        self.cursor = (line, column)
