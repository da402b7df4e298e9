"""The recipe editor: a code editor with live problems, quick fixes, completion, documentation and find.

Validation runs in a thread a moment after the last key; it needs the schema of the installed libraries, which is read once in the
background (until it is there only YAML problems are known). Two editors of one file (in two workbenches) are kept in step through the disk:
what one saves the other reads within two seconds and says so, unless it has changes of its own, and then saving asks.

Commands reach the view at once, letters typed before them may still be on their way to the text: what a command does to the text is
therefore done in turn (CodeEditor.in_turn).
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.widgets import TextArea

from tuitune.errors import UserError
from tuitune.text import printable
from tuitune.workbench.commands.recipe import COMMANDS
from tuitune.workbench.commands.registry import Command
from tuitune.workbench.drafts import forget_draft, read_draft
from tuitune.workbench.views.recipe import disk
from tuitune.workbench.views.recipe.completion import CompletionPopup
from tuitune.workbench.views.recipe.find_bar import FindBar
from tuitune.workbench.views.recipe.fixes import change_between, problem_at, problems_of, with_every_fix
from tuitune.workbench.views.recipe.news import DiskNews, SchemaReady, Validated
from tuitune.workbench.views.recipe.peek import Peek
from tuitune.workbench.views.recipe.strip import ProblemStrip
from tuitune.workbench.views.view import Symbol, View
from tuitune.workbench.widgets.code_editor import LARGE, CodeEditor

if TYPE_CHECKING:
    from tuitune.recipe.problems import Problem
    from tuitune.recipe.schema import Schema

VALIDATE_AFTER_S = 0.15
CRUMBS_AFTER_S = 0.05
LOOK_AT_DISK_S = 2.0
READING = "reading the installed libraries' options …"


class RecipeEditor(View):
    """One recipe. The text is the truth; everything else here is derived from it. UserError when the file cannot be opened."""

    kind = "recipe"
    commands: ClassVar[tuple[Command, ...]] = COMMANDS
    DEFAULT_CSS = "RecipeEditor { layers: base popup; }"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.file = disk.read(path)
        self.schema: Schema | None = None
        self.note = READING
        self._version = 0
        self._judging = 0
        self.checked = False
        self._gone = False
        self._older = False  # the text came from a draft that is older than the file
        self._told = False  # that the file was changed by somebody else
        self._looking = False
        self._leaving = threading.Event()
        self._saving = asyncio.Lock()
        self.code = CodeEditor(self.file.text, read_only=bool(self.file.read_only))
        self.code.before_key = self._take_key
        self.popup = CompletionPopup(self.code, lambda: self.schema)
        self.find_bar = FindBar(self.code)
        self.peek = Peek()
        self.strip = ProblemStrip()

    def compose(self) -> ComposeResult:
        yield self.code
        yield self.peek
        yield self.find_bar
        yield self.strip
        yield self.popup

    def on_mount(self) -> None:
        self.run_worker(self._load_schema, thread=True, group="schema", exit_on_error=False)
        self._timer = self.set_timer(VALIDATE_AFTER_S, self._validate_soon)
        self._crumbs = self.set_timer(CRUMBS_AFTER_S, self._show_crumbs)
        self.set_interval(LOOK_AT_DISK_S, self._look_at_disk)
        self.watch(self.code, "scroll_y", lambda: self.popup.close(), init=False)
        self._show_place()
        self._offer_draft()

    def on_unmount(self) -> None:
        """Whoever quits while the options are still being read does not wait for them."""
        self._leaving.set()

    def _take_key(self, key: str) -> bool:
        return self.popup.take_key(key) or self.peek.take_key(key)

    # the text and its problems

    @property
    def text(self) -> str:
        """The text as edited, lines ended by "\\n"."""
        return "\n".join(self.code.document.lines)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self._version += 1
        self._show_dirty()
        self._timer.stop()
        self._timer = self.set_timer(VALIDATE_AFTER_S, self._validate_soon)
        typed = self.code.typed
        if typed and (typed != "backspace" or self.popup.open):
            self.popup.after_typing()
        else:
            self.popup.close()

    def on_text_area_selection_changed(self, event: TextArea.SelectionChanged) -> None:
        event.stop()
        self.popup.after_move()
        self._show_place()

    def _show_dirty(self) -> None:
        self.dirty = self._gone or self.text != self.file.text

    def _validate_soon(self) -> None:
        self._judging += 1
        text, version, schema, judging = self.text, self._version, self.schema, self._judging

        def judge() -> None:
            problems = problems_of(text, self.path, schema)
            if judging == self._judging:  # a thread cannot be stopped: an older one may end after a newer one
                self.post_message(Validated(version, problems))

        self.run_worker(judge, thread=True, group="validate", exclusive=True, exit_on_error=False)

    def on_recipe_editor_validated(self, event: Validated) -> None:
        event.stop()
        if event.version == self._version:
            self._take_problems(event.problems)

    def _take_problems(self, problems: list[Problem]) -> None:
        self.checked = self.checked or self.schema is not None or self.note != READING
        self.code.show_problems(problems)
        self.set_problems(problems)
        self._show_problem_here()

    def flush(self) -> None:
        """Judge the text now; reads the schema if that has not happened yet (a moment when it is cached)."""
        if self.schema is None:
            from tuitune.recipe.schema import cached_schema

            self.schema = cached_schema()
        self._take_problems(problems_of(self.text, self.path, self.schema))

    def _load_schema(self) -> None:
        from tuitune.recipe.schema import load_schema

        try:
            self.post_message(SchemaReady(load_schema(cancel=self._leaving)))
        except UserError as error:
            self.post_message(SchemaReady(None, str(error)))

    def on_recipe_editor_schema_ready(self, event: SchemaReady) -> None:
        event.stop()
        self.schema, self.note = event.schema, event.error
        if event.error:
            self.post_message(self.OutputLine(event.error))
        self._show_problem_here()
        self._validate_soon()

    # where the cursor is

    @property
    def place(self) -> tuple[int, int]:
        """(line, column) of the cursor, from 1."""
        row, column = self.code.cursor_location
        return row + 1, column + 1

    def _show_place(self) -> None:
        line, column = self.place
        self.status = f"Ln {line}, Col {column}"
        self._crumbs.stop()
        self._crumbs = self.set_timer(CRUMBS_AFTER_S, self._show_crumbs)  # beside the keys, not between them
        self._show_problem_here()

    def _show_crumbs(self) -> None:
        from tuitune.recipe.complete import breadcrumb

        parts = breadcrumb(self.text, *self.place) if self.code.document.line_count <= LARGE else ()
        self.breadcrumb = " › ".join(printable(part) for part in parts)

    def _show_problem_here(self) -> None:
        if self.file.read_only:
            self.strip.show(None, self.file.read_only)
        else:
            self.strip.show(self._problem_here(), self.note if self.schema is None else "")

    def _problem_here(self) -> Problem | None:
        """The problem at the cursor, else the first of its line."""
        return problem_at(self.problems, *self.place)

    def go_to(self, line: int, column: int = 1) -> None:
        self.code.in_turn(lambda: self._go_to(line, column))

    def _go_to(self, line: int, column: int) -> None:
        row = max(0, min(line - 1, self.code.document.line_count - 1))
        self.code.move_cursor((row, max(0, min(column - 1, len(self.code.document[row])))), center=True)

    def focus_content(self) -> None:
        self.code.focus()

    def symbols(self) -> list[Symbol]:
        from tuitune.recipe.complete import symbols
        from tuitune.recipe.document import parse

        found = symbols(parse(self.text, self.path))
        return [Symbol(printable(entry.name), entry.line, entry.column, depth=len(entry.path) - 1) for entry in found]

    # fixes

    def action_fix(self) -> None:
        """Apply the fix of the problem under the cursor, as one undo step."""
        self.code.in_turn(self._fix_here)

    def _fix_here(self) -> None:
        self.flush()  # the problem is looked up in the text as it is now
        problem = self._problem_here()
        if problem is None or problem.fix is None:
            self.app.notify("This problem has no automatic fix." if problem else "There is no problem here; F8 goes to the next one.")
        else:
            from tuitune.recipe.problems import apply_fix

            self._fix_to(apply_fix(self.text, problem.fix))

    def action_fix_all(self) -> None:
        """Apply every fix that is known, all of them as one undo step."""
        self.code.in_turn(lambda: self._fix_to(with_every_fix(self.text, self.path, self.schema)))

    def _fix_to(self, text: str) -> None:
        if self.file.read_only:
            self.app.notify(self.file.read_only, severity="warning")
            return
        self._replace(text)
        self.flush()

    def _replace(self, text: str) -> None:
        """Make the text another one by one edit of the part that differs, so that one undo takes it back."""
        if text != self.text:
            self.code.typed = ""  # a reload comes by itself, not in turn
            self.code.history.checkpoint()
            self.code.replace(*change_between(self.text, text))
            self.code.history.checkpoint()

    def action_undo(self) -> None:
        """Take the last change back."""
        self.code.in_turn(self.code.undo)

    def action_redo(self) -> None:
        """Make it again."""
        self.code.in_turn(self.code.redo)

    # completion, documentation, find

    def action_complete(self) -> None:
        """Open the list of what fits here."""
        self.code.in_turn(self._complete)

    def _complete(self) -> None:
        if not self.popup.offer(asked=True):
            unknown = self.note or "The installed libraries' options are not known."
            self.app.notify(unknown if self.schema is None else "Nothing fits here.")

    def action_docs(self) -> None:
        """Show or hide what the key under the cursor means."""
        self.code.in_turn(self._toggle_peek)

    def _toggle_peek(self) -> None:
        if self.peek.open:
            self.peek.close()
            return
        from tuitune.recipe.complete import describe

        text = describe(self.text, *self.place, self.schema) if self.schema else self.note
        self.peek.show(text or "Nothing is known about this place.")

    def action_find(self) -> None:
        """Open the find bar with the selected text."""
        self.popup.close()
        self.find_bar.open(self.code.selected_text.partition("\n")[0])

    def action_find_next(self) -> None:
        """F3."""
        self._find(1)

    def action_find_previous(self) -> None:
        """Shift+F3."""
        self._find(-1)

    def _find(self, by: int) -> None:
        if self.find_bar.wanted:
            self.code.in_turn(lambda: self.find_bar.step(by))
        else:
            self.action_find()

    # the disk

    async def save(self) -> bool:
        from tuitune.workbench.views.recipe.conflict import ask

        async with self._saving:
            await self.code.settled()
            if self.file.read_only:
                self.app.notify(self.file.read_only, title="Not saved", severity="error")
                return False
            answer = await ask(self.app, self.file, self.text, changed=self._older)
            if answer != "overwrite":
                if answer == "reload":
                    self.action_reload()
                return False
            try:
                self.file = await asyncio.to_thread(disk.write, self.file, self.text)
            except UserError as error:
                self.app.notify(str(error), title="Not saved", severity="error", timeout=10)
                return False
            self._gone = self._told = self._older = False
            self._show_dirty()
            return True

    def _look_at_disk(self) -> None:
        if not self._looking:  # a network disk may keep the last look waiting
            self._looking = True
            self.run_worker(self._looked, thread=True, group="disk", exit_on_error=False)

    def _looked(self) -> None:
        file = self.file
        if disk.look(file) != ("gone" if self._gone else "same"):
            self.post_message(DiskNews(file))
        self._looking = False

    def on_recipe_editor_disk_news(self, event: DiskNews) -> None:
        event.stop()
        if event.file is not self.file or self._saving.locked():
            return  # it was we who wrote
        news = disk.look(self.file)
        self._gone = news == "gone"
        self._show_dirty()
        if self._gone:
            self.app.notify("Saving writes it again.", title=f"{self.title} was deleted on disk", severity="warning")
        elif news == "changed" and not self._told:
            self._told = True
            if not self.dirty:
                self.action_reload()
            else:
                self.app.notify("Saving will ask what to do.", title=f"{self.title} was changed on disk", severity="warning")

    def action_reload(self) -> None:
        """Read the file again; what was not saved is gone, one undo brings it back."""
        try:
            self.file = disk.read(self.path)
        except UserError as error:
            self.app.notify(str(error), severity="error")
            return
        self._gone = self._told = self._older = False
        self.code.read_only = bool(self.file.read_only)
        self._replace(self.file.text)
        self._show_dirty()
        self.app.notify(f"{self.title} was read again from disk.")

    def reread(self) -> None:
        self.action_reload()

    def shown_text(self) -> str:
        return self.text

    def draft_text(self) -> str | None:
        return self.text if self.dirty else None

    def watch_dirty(self) -> None:
        super().watch_dirty()
        if not self.dirty:
            forget_draft(self.path)

    def give_up(self) -> None:
        if self.dirty:
            forget_draft(self.path)

    def _offer_draft(self) -> None:
        """What a hang-up saved is put back as an unsaved change, and said."""
        draft = read_draft(self.path)
        if draft is None:
            return
        if draft.text == self.text:
            forget_draft(self.path)
        elif self.file.read_only:
            self.app.notify(f"What you had not saved is kept in {draft.file}.", title="Draft not restored", severity="warning", timeout=15)
        else:
            self._replace(draft.text)
            said = "What you had not saved when the line was lost is back. Ctrl+Z brings the saved text."
            self._older = self.file.stamp[0] > draft.mtime_ns
            newer = " The file was changed since then: saving will ask what to do." if self._older else ""
            self.app.notify(said + newer, title="Draft restored", timeout=15)

    async def action_inspect_rows(self) -> None:
        """The rows as the trainer sees them: those of the file, so changes are saved first."""
        await self._open_saved("tokens")

    async def action_show_template(self) -> None:
        """The chat template on the file's rows."""
        await self._open_saved("template")

    async def action_show_alignment(self) -> None:
        """Tokenizer, embedding and adapter of the file."""
        await self._open_saved("alignment")

    async def action_show_plan(self) -> None:
        """The GPU memory of the file."""
        await self._open_saved("plan")

    async def _open_saved(self, kind: str) -> None:
        if not self.dirty or await self.save():
            self.post_message(self.OpenRequested(kind, self.path))

    def action_diff(self) -> None:
        """What changed since the last run of this recipe."""
        from tuitune.workbench.views.recipe.last_run import show_difference

        work = show_difference(self.app, self.path, self.text)
        self.run_worker(work, group="diff", exclusive=True, exit_on_error=False)
