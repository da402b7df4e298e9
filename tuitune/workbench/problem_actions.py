"""What the commands of commands/problems.py do: the list of a recipe's problems, its preflight, and the way to each of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tuitune.workbench.actions import Actions
from tuitune.workbench.commands.registry import key_of
from tuitune.workbench.parts.panel import Panel
from tuitune.workbench.problem_list import RECIPE_KINDS, Check, Entry, entries_of, headline, is_stale, target_of

if TYPE_CHECKING:
    from tuitune.workbench.check_control import CheckNews
    from tuitune.workbench.views.view import View


class ProblemActions(Actions):
    """`checks`: the last preflight of each recipe; `at_hand`: the recipe whose problems are listed, which stays the same while one looks
    at its data or its model."""

    checks: dict[Path, Check]
    at_hand: Path | None = None

    # The list

    def show_problems(self) -> None:
        """Bring the panel's list up to date."""
        before, self.at_hand = self.at_hand, self._recipe_at_hand()
        recipe = self.at_hand
        if recipe is None:
            otherwise = "No problems." if self.editor.active is not None else "No file is open."
            self.panel.show_problems([], "", otherwise, anew=before is not None)
            return
        view, check = self.editor.views.get(f"recipe:{recipe}"), self.checks.get(recipe)
        text = view.shown_text() if view is not None and check is not None else None
        entries = entries_of(recipe, view.problems if view is not None else None, check, text)
        line = headline(check, is_stale(check, text), key_of("check.run"))
        otherwise = f"No problems. {key_of('check.run')} checks the recipe with its data, its model and this box."
        self.panel.show_problems(entries, line, otherwise, anew=recipe != before)

    def _recipe_at_hand(self) -> Path | None:
        active = self.editor.active
        if active is not None and active.kind in RECIPE_KINDS:
            return active.path
        still_open = any(view.path == self.at_hand for view in self.editor.views.values() if view.kind in RECIPE_KINDS)
        return self.at_hand if still_open else None

    @property
    def checking(self) -> Check | None:
        """The check that goes on."""
        return next((check for check in self.checks.values() if check.doing), None)

    def on_check_news(self, event: CheckNews) -> None:
        """A check's thread has told something; what comes after its end, or after its successor began, is old."""
        event.stop()
        check = event.check
        if not check.doing or check is not self.checks.get(check.recipe):
            return
        check.text = check.text if event.text is None else event.text
        check.doing = event.doing.removeprefix("checking: ") or check.doing
        if event.finding is not None:
            check.findings.append(event.finding)
        self.show_problems()

    # Going there

    async def action_next_problem(self) -> None:
        """Go to the problem after the last one visited."""
        await self._step_problem(1)

    async def action_previous_problem(self) -> None:
        """Go to the problem before the last one visited."""
        await self._step_problem(-1)

    async def _step_problem(self, by: int) -> None:
        entry = self.panel.step_problem(by)
        view = self.editor.active
        if entry is not None:
            await self.open_entry(entry)
        else:
            self.notify("No problems here." if view is None or view.checked else "Not checked yet: the options are still being read.")

    async def on_panel_entry_chosen(self, event: Panel.EntryChosen) -> None:
        event.stop()
        await self.open_entry(event.entry)

    async def open_entry(self, entry: Entry) -> None:
        """Show a problem at its place: in the recipe, in the rows, in the data, wherever it is."""
        from tuitune.workbench.views.catalog import KINDS

        recipe = self.at_hand
        if recipe is None:
            return
        if entry.problem is not None:
            view = await self.open_view("recipe", recipe)
            if view is not None:
                view.go_to(entry.problem.line, entry.problem.column)
        elif entry.finding is not None:
            editor, check = self.editor.views.get(f"recipe:{recipe}"), self.checks.get(recipe)
            text = editor.shown_text() if editor is not None else check.text if check else None
            target = target_of(entry.finding, recipe, text, KINDS)
            view = await self.open_view(target.kind, target.path)
            if view is not None and target.row is not None:
                view.show_row(target.row)
            elif view is not None and target.line:
                view.go_to(target.line, target.column)

    # Checking and fixing

    def on_view_change_requested(self, event: View.ChangeRequested) -> None:
        from tuitune.workbench import check_control

        event.stop()
        work = check_control.write(self, event.path, event.text, event.change)
        self.run_worker(work, group="write", exclusive=True, exit_on_error=False)

    def action_check(self) -> None:
        """Preflight of the recipe at hand; while it goes on: end it."""
        from tuitune.workbench import check_control

        if (check := self.checking) is not None:
            check.cancel.set()
        elif (recipe := self.at_hand) is not None:
            self.show_panel("problems")
            self.run_worker(self._save_and_check(recipe), group=check_control.__name__, exclusive=True, exit_on_error=False)

    async def _save_and_check(self, recipe: Path) -> None:
        """The file is what is checked and what is trained: unsaved changes are saved first."""
        from tuitune.workbench import check_control

        view = self.editor.views.get(f"recipe:{recipe}")
        if view is None or not view.dirty or await view.save():
            await check_control.look(self, recipe)

    def action_fix_problem(self) -> None:
        """Put the problem under the panel's cursor right."""
        entry = self.panel.entry
        if entry is not None:
            self._fix(entry)

    def _fix(self, entry: Entry) -> None:
        from tuitune.workbench import check_control

        if self.at_hand is not None:
            work = check_control.fix(self, self.at_hand, entry)
            self.run_worker(work, group=check_control.__name__, exclusive=True, exit_on_error=False)

    def action_undo_fix(self) -> None:
        """Take the last fix of a finding back."""
        from tuitune.workbench import check_control

        if self.at_hand is not None:
            work = check_control.undo(self, self.at_hand)
            self.run_worker(work, group=check_control.__name__, exclusive=True, exit_on_error=False)

    def action_explain_problem(self) -> None:
        """The whole message of the problem under the panel's cursor, with its evidence and why it matters."""
        entry = self.panel.entry
        if entry is not None:
            self.run_worker(self._explain(entry), group="explain", exclusive=True, exit_on_error=False)

    async def _explain(self, entry: Entry) -> None:
        from tuitune.workbench.parts.explanation import Explanation, documentation

        text = await self.in_thread(lambda: documentation(entry.id))
        answer = await self.push_screen_wait(Explanation(entry, text or ""))
        if answer == "fix":
            self._fix(entry)
        elif answer == "go":
            await self.open_entry(entry)

    # Runs

    def action_run_start(self) -> None:
        """Ask, save, check, launch."""
        self._start(force=False)

    def action_run_force(self) -> None:
        """The same with a gate that lets errors pass, after a question."""
        self._start(force=True)

    def _start(self, *, force: bool) -> None:
        from tuitune.workbench import run_control

        if self.editor.active is not None and self.editor.active.kind == "recipe":
            work = run_control.start(self, self.editor.active, force=force)
            self.run_worker(work, group="run-start", exclusive=True, exit_on_error=False)
