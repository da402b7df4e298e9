"""The recipe editor: a code editor with live problems, quick fixes, completion, documentation and find.

Validation runs in a thread a moment after the last key; it needs the schema of the installed libraries, which is read once in the
background (until it is there only YAML problems are known). Two panes on one file are kept in step through the disk: what one saves the
other reads within two seconds, unless it has changes of its own, and then saving asks.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widgets import Static, TextArea

from tuitune.errors import UserError
from tuitune.text import printable
from tuitune.workbench.commands.recipe import COMMANDS
from tuitune.workbench.commands.registry import Command
from tuitune.workbench.views.recipe import disk
from tuitune.workbench.views.recipe.completion import WIDTH, CompletionPopup
from tuitune.workbench.views.recipe.find_bar import FindBar, places
from tuitune.workbench.views.view import Symbol, View, draft_file
from tuitune.workbench.widgets.code_editor import CodeEditor

if TYPE_CHECKING:
    from tuitune.recipe.problems import Problem
    from tuitune.recipe.schema import Schema

VALIDATE_AFTER_S = 0.15
LOOK_AT_DISK_S = 2.0
OFFER_AFTER = 2  # letters of a key before completion opens by itself


class RecipeEditor(View):
    """One recipe. The text is the truth; everything else here is derived from it."""

    kind = "recipe"
    commands: ClassVar[tuple[Command, ...]] = COMMANDS
    DEFAULT_CSS = """
    RecipeEditor { layers: base popup; }
    RecipeEditor > #recipe-message { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; background: $surface; }
    RecipeEditor > #recipe-docs { display: none; height: auto; max-height: 10; padding: 0 1; background: $panel; }
    """

    class Validated(Message):
        """The thread has judged the text of version `version`."""

        def __init__(self, version: int, problems: list[Problem]) -> None:
            super().__init__()
            self.version = version
            self.problems = problems

    class SchemaReady(Message):
        """The options of the installed libraries are known, or why they are not."""

        def __init__(self, schema: Schema | None, error: str = "") -> None:
            super().__init__()
            self.schema = schema
            self.error = error

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self.file = disk.read(path)
        except UserError as error:
            self.file = disk.RecipeFile(path, read_only=str(error))
        self.schema: Schema | None = None
        self.note = "reading the options of the installed libraries …"
        self._version = 0
        self._told_change = False
        self._leaving = threading.Event()
        self._editor = CodeEditor(self.file.text, read_only=bool(self.file.read_only))
        self._editor.before_key = self._popup_key
        self._popup = CompletionPopup()
        self._find = FindBar()
        self._message = Static(id="recipe-message", markup=False)
        self._docs = Static(id="recipe-docs", markup=False)

    def compose(self) -> ComposeResult:
        yield self._editor
        yield self._docs
        yield self._find
        yield self._message
        yield self._popup

    def on_mount(self) -> None:
        self.run_worker(self._load_schema, thread=True, group="schema", exit_on_error=False)
        self._timer = self.set_timer(VALIDATE_AFTER_S, self._validate_soon)
        self.set_interval(LOOK_AT_DISK_S, self._look_at_disk)
        self._show_place()
        self._offer_draft()

    def on_unmount(self) -> None:
        """Whoever quits while the options are still being read does not wait for them."""
        self._leaving.set()

    # the text and its problems

    @property
    def text(self) -> str:
        """The text as edited, lines ended by "\\n"."""
        return "\n".join(self._editor.document.lines)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self._version += 1
        self.dirty = self.text != self.file.text
        self._timer.stop()
        self._timer = self.set_timer(VALIDATE_AFTER_S, self._validate_soon)
        self._offer_while_typing()

    def on_text_area_selection_changed(self, event: TextArea.SelectionChanged) -> None:
        event.stop()
        self._show_place()

    def _validate_soon(self) -> None:
        text, version, schema = self.text, self._version, self.schema

        def judge() -> None:
            self.post_message(self.Validated(version, _problems(text, self.path, schema)))

        self.run_worker(judge, thread=True, group="validate", exclusive=True, exit_on_error=False)

    def on_recipe_editor_validated(self, event: Validated) -> None:
        event.stop()
        if event.version == self._version:
            self._take_problems(event.problems)

    def _take_problems(self, problems: list[Problem]) -> None:
        self._editor.show_problems(problems)
        self.set_problems(problems)
        self._show_place()

    def flush(self) -> None:
        """Judge the text now; reads the schema if that has not happened yet (a moment when it is cached)."""
        if self.schema is None:
            from tuitune.recipe.schema import cached_schema

            self.schema = cached_schema()
        self._take_problems(_problems(self.text, self.path, self.schema))

    def _load_schema(self) -> None:
        from tuitune.recipe.schema import load_schema

        try:
            self.post_message(self.SchemaReady(load_schema(cancel=self._leaving)))
        except UserError as error:
            self.post_message(self.SchemaReady(None, str(error)))

    def on_recipe_editor_schema_ready(self, event: SchemaReady) -> None:
        event.stop()
        self.schema, self.note = event.schema, event.error
        if event.error:
            self.post_message(self.OutputLine(event.error))
        self._validate_soon()

    # where the cursor is

    @property
    def place(self) -> tuple[int, int]:
        """(line, column) of the cursor, from 1."""
        row, column = self._editor.cursor_location
        return row + 1, column + 1

    def _show_place(self) -> None:
        from tuitune.recipe.complete import breadcrumb

        line, column = self.place
        self.status = f"Ln {line}, Col {column}"
        self.breadcrumb = " › ".join(printable(part) for part in breadcrumb(self.text, line, column))
        here = self._problem_here()
        if here is not None:
            fix = f"  F4: {printable(here.fix.title)}" if here.fix else ""
            self._message.update(
                Content.assemble((printable(here.message), f"${here.severity}" if here.severity != "info" else ""), (fix, "bold"))
            )
        else:
            self._message.update(
                Content.styled(printable(self.file.read_only or (self.note if self.schema is None else "")), "$text-muted")
            )

    def _problem_here(self) -> Problem | None:
        """The problem at the cursor, else the first of its line."""
        line, column = self.place
        on_line = [problem for problem in self.problems if problem.line <= line <= problem.end_line]
        at = [
            problem for problem in on_line if problem.line == line and problem.column <= column <= max(problem.end_column, problem.column)
        ]
        return next(iter(at or on_line), None)

    def go_to(self, line: int, column: int = 1) -> None:
        row = max(0, min(line - 1, self._editor.document.line_count - 1))
        self._editor.move_cursor((row, max(0, min(column - 1, len(self._editor.document[row])))), center=True)
        self.focus_content()

    def focus_content(self) -> None:
        self._editor.focus()

    def symbols(self) -> list[Symbol]:
        from tuitune.recipe.complete import symbols
        from tuitune.recipe.document import parse

        found = symbols(parse(self.text, self.path))
        return [Symbol(printable(entry.name), entry.line, entry.column, depth=len(entry.path) - 1) for entry in found]

    # fixes

    def action_fix(self) -> None:
        """Apply the fix of the problem under the cursor, as one undo step; the problem is looked up in the text as it is now."""
        self.flush()
        problem = self._problem_here()
        if problem is None or problem.fix is None:
            said = "There is no problem here; F8 goes to the next one." if problem is None else "This problem has no automatic fix."
            self.app.notify(said)
            return
        self._apply([problem])

    def action_fix_all(self) -> None:
        """Apply fix after fix until none is left; each is checked against the text the last one made."""
        for _ in range(100):
            self.flush()
            fixable = [problem for problem in self.problems if problem.fix]
            if not fixable:
                return
            self._apply(fixable[:1])

    def _apply(self, problems: list[Problem]) -> None:
        if self._editor.read_only:
            self.app.notify(self.file.read_only, severity="warning")
            return
        from tuitune.recipe.problems import apply_fix

        before = self.text
        after = before
        for problem in problems:
            if problem.fix:
                after = apply_fix(after, problem.fix)
        self._replace(before, after)
        self.flush()

    def _replace(self, before: str, after: str) -> None:
        """Bring the text from `before` to `after` by one edit of the part that differs, so that one undo takes it back."""
        start = next((index for index, (a, b) in enumerate(zip(before, after)) if a != b), min(len(before), len(after)))
        end = 0
        while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
            end += 1
        self._editor.history.checkpoint()
        self._editor.replace(after[start : len(after) - end], _location(before, start), _location(before, len(before) - end))
        self._editor.history.checkpoint()

    def action_undo(self) -> None:
        """Take the last change back."""
        self._editor.undo()

    def action_redo(self) -> None:
        """Make it again."""
        self._editor.redo()

    # completion and documentation

    def action_complete(self) -> None:
        """Open the list of what fits here."""
        if not self._offer(asked=True):
            said = "The options of the installed libraries are still being read." if self.schema is None else "Nothing to complete here."
            self.app.notify(said)

    def _offer_while_typing(self) -> None:
        line, column = self.place
        before = self._editor.document[line - 1][: column - 1]
        word = before.lstrip(" -").rpartition("{")[2].rpartition(", ")[2]
        typing_key = len(word) >= OFFER_AFTER and word.isidentifier() and self._editor.has_focus
        at_value = before.endswith(": ") or (": " in before and word and not word.endswith(" ") and not typing_key)
        if self._popup.open and self._popup.asked and (word or at_value):
            self._offer(asked=True)
        elif typing_key or at_value:
            self._offer(asked=False)
        else:
            self._popup.close()

    def _offer(self, *, asked: bool) -> bool:
        if self.schema is None or self._editor.read_only:
            return False
        from tuitune.recipe.complete import complete

        line, column = self.place
        items = complete(self.text, line, column, self.schema)
        typed = self._editor.document[line - 1][items[0].replace_from_column - 1 : column - 1] if items else ""
        if not items or (
            not asked and (items[0].text.rstrip(": ") == typed.rstrip(": ") or (items[0].kind == "value" and not typed and len(items) > 40))
        ):
            self._popup.close()
            return False
        x, y = self._editor.cursor_screen_offset - self.region.offset
        x = max(0, min(x - len(typed) - 3, self.size.width - WIDTH))
        below = y + 1 + min(len(items), 8) + 3 <= self.size.height
        self._popup.offer(items, x, y + 1 if below else max(0, y - min(len(items), 8) - 3), asked=asked)
        return True

    def _popup_key(self, key: str) -> bool:
        popup = self._popup
        if key == "escape" and self._docs.display:
            self._docs.display = False
            return True
        if not popup.open:
            return False
        if key in ("up", "down", "pageup", "pagedown"):
            popup.move({"up": -1, "down": 1, "pageup": -7, "pagedown": 7}[key])
            return True
        if key == "escape":
            popup.close()
            return True
        if key == "tab" or (key == "enter" and (popup.asked or popup.touched)):
            self._take()
            return True
        if key in ("enter", "left", "right", "home", "end"):
            popup.close()
        return False

    def _take(self) -> None:
        item = self._popup.chosen
        self._popup.close()
        if item is None:
            return
        line, column = self.place
        rest = self._editor.document[line - 1][column - 1 :]
        text = item.text
        if item.kind != "value" and not rest.lstrip().startswith(":"):
            text = text.rstrip(": ") + (": " if item.kind == "key" else ":")
        self._editor.replace(text, (line - 1, item.replace_from_column - 1), (line - 1, column - 1), maintain_selection_offset=False)
        if item.kind == "section" and text.endswith(":"):
            self._popup.close()

    def action_docs(self) -> None:
        """Show or hide what the key under the cursor means."""
        if self._docs.display:
            self._docs.display = False
            return
        from tuitune.recipe.complete import describe

        text = describe(self.text, *self.place, self.schema) if self.schema else None
        self._docs.update(printable(text, newlines=True) if text else "Nothing is known about this place.")
        self._docs.display = True

    # find

    def action_find(self) -> None:
        """Open the find bar with the selected text."""
        self._find.open(self._editor.selected_text.partition("\n")[0])

    def action_find_next(self) -> None:
        """F3."""
        self._search(1)

    def action_find_previous(self) -> None:
        """Shift+F3."""
        self._search(-1)

    def on_find_bar_wanted(self, event: FindBar.Wanted) -> None:
        event.stop()
        self._search(event.step)

    def on_find_bar_left(self, event: FindBar.Left) -> None:
        event.stop()
        self.focus_content()

    def _search(self, step: int) -> None:
        found = places(self.text, self._find.wanted)
        if found:
            start = self._editor.selection.start
            here = (start[0] + 1, start[1] + 1)
            ahead = [place for place in found if (place > here if step > 0 else place >= here)]
            behind = [place for place in found if place < here]
            line, column = ((behind or found)[-1]) if step < 0 else (ahead or found)[0]
            self._editor.move_cursor((line - 1, column - 1), center=True)
            self._editor.move_cursor((line - 1, column - 1 + len(self._find.wanted)), select=True)
        self._find.show_count(found.index((line, column)) + 1 if found else 0, len(found))

    # the disk

    async def save(self) -> bool:
        if self.file.read_only:
            self.app.notify(self.file.read_only, title="Not saved", severity="error")
            return False
        if disk.stamp(self.path) not in (self.file.stamp, None) and not await self._may_overwrite():
            return False
        try:
            self.file = disk.write(self.file, self.text)
        except UserError as error:
            self.app.notify(str(error), title="Not saved", severity="error", timeout=10)
            return False
        self.dirty = False
        draft_file(self.path).unlink(missing_ok=True)
        return True

    async def _may_overwrite(self) -> bool:
        """The file was changed by somebody else: overwrite it, take theirs, or stay."""
        from tuitune.workbench.parts.confirm import Choice, Confirm

        choices = [Choice("o", "Overwrite", "overwrite"), Choice("r", "Reload theirs", "reload")]
        question = Confirm(f"{self.title} was changed on disk since you opened it.", ["Overwriting loses what is there now."], choices)
        answer = await self.app.push_screen_wait(question)
        if answer == "reload":
            self.action_reload()
        return bool(answer == "overwrite")

    def _look_at_disk(self) -> None:
        self.run_worker(self._compare_with_disk, thread=True, group="disk", exclusive=True, exit_on_error=False)

    def _compare_with_disk(self) -> None:
        now = disk.stamp(self.path)
        if now not in (self.file.stamp, None) and self.is_attached:
            self.app.call_from_thread(self._changed_on_disk)

    def _changed_on_disk(self) -> None:
        if not self.dirty:
            self.action_reload()
        elif not self._told_change:
            self._told_change = True
            self.app.notify("Saving will ask what to do.", title=f"{self.title} was changed on disk", severity="warning")

    def action_reload(self) -> None:
        """Read the file again; what was not saved is gone, one undo brings it back."""
        try:
            self.file = disk.read(self.path)
        except UserError as error:
            self.app.notify(str(error), severity="error")
            return
        self._told_change = False
        self._editor.read_only = bool(self.file.read_only)
        self._replace(self.text, self.file.text)
        self.dirty = False

    def draft_text(self) -> str | None:
        return self.text if self.dirty else None

    def _offer_draft(self) -> None:
        """What a hang-up saved is put back as an unsaved change, and said."""
        draft = draft_file(self.path)
        try:
            text = draft.read_text(encoding="utf-8")
            draft.unlink()
        except (OSError, UnicodeDecodeError):
            return
        if text != self.text and not self.file.read_only:
            self._replace(self.text, text)
            self.app.notify("What you had not saved when the line was lost is back. Ctrl+Z brings the saved text.", title="Draft restored")

    def action_diff(self) -> None:
        """What changed since the last run of this recipe, below the text."""
        self.run_worker(self._load_diff, thread=True, group="diff", exclusive=True, exit_on_error=False)

    def _load_diff(self) -> None:
        from tuitune.workbench.views.recipe.last_run import difference

        said = difference(self.path, self.text)
        self.app.call_from_thread(self._show_diff, said)

    def _show_diff(self, said: Content) -> None:
        self._docs.update(said)
        self._docs.display = True


def _problems(text: str, path: Path, schema: Schema | None) -> list[Problem]:
    from tuitune.recipe.document import parse
    from tuitune.recipe.validate import validate

    document = parse(text, path)
    return validate(document, schema) if schema is not None else list(document.problems)


def _location(text: str, offset: int) -> tuple[int, int]:
    row = text.count("\n", 0, offset)
    return row, offset - (text.rfind("\n", 0, offset) + 1)
