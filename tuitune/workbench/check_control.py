"""Preflight from the workbench: a check beside the event loop, the gate before a run, a finding's fix and its undo.

Everything here is called from workers of the app; what a check finds comes as CheckNews from its thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from textual.message import Message

from tuitune.text import printable
from tuitune.workbench.analysis import analyst_of
from tuitune.workbench.commands.registry import key_of
from tuitune.workbench.parts.confirm import Choice, Confirm
from tuitune.workbench.problem_list import Check, Entry

if TYPE_CHECKING:
    from tuitune.preflight.finding import Finding, Fix
    from tuitune.preflight.gate import Basis, Passed
    from tuitune.preflight.preflight import Report
    from tuitune.workbench.problem_actions import ProblemActions
    from tuitune.workbench.views.view import View

LISTED = 4  # findings that a question lists
BLANKS = re.compile(r"(?<=\S) {3,}")  # before a comment: the question is narrow
DIFF_LINES = 12  # changed lines that a question shows


class CheckNews(Message):
    """A check began with a text, does something else now, or has found something."""

    def __init__(self, check: Check, *, text: str | None = None, doing: str = "", finding: Finding | None = None) -> None:
        super().__init__()
        self.check, self.text, self.doing, self.finding = check, text, doing, finding


async def look(app: ProblemActions, recipe: Path) -> Check:
    """Run preflight on a recipe's file to its end; another one that goes on is ended first. A failure has been told when it returns."""
    for other in app.checks.values():
        other.cancel.set()
    check = app.checks[recipe] = Check(recipe)
    app.show_problems()
    try:
        done = await app.in_thread(lambda: _run(app, check), failed="Not checked")
        if done is not None:
            check.basis, check.report = done
            check.text, check.findings = done[1].text, done[1].findings
    finally:  # this worker may be ended as well
        check.cancel.set()
        check.doing, check.ended = "", monotonic()
        check.done.set()
        app.show_problems()
    return check


def _run(app: ProblemActions, check: Check) -> tuple[Basis, Report] | None:
    """In a thread: what the check rests on and what it found; None when it was ended."""
    from tuitune.analyst.client import Cancelled
    from tuitune.preflight.gate import basis

    def tell(**news: Any) -> None:
        with suppress(RuntimeError):  # the app may just have ended
            app.post_message(CheckNews(check, **news))

    rests_on = basis(check.recipe)
    tell(text=rests_on.text)
    try:
        report = run_preflight(app, check, lambda finding: tell(finding=finding), lambda text: tell(doing=text))
    except Cancelled:
        return None
    return rests_on, report


def run_preflight(app: ProblemActions, check: Check, found: Callable[[Finding], None], progress: Callable[[str], None]) -> Report:
    """The real one; tests put another in its place."""
    from tuitune.preflight.preflight import preflight

    return preflight(check.recipe, analyst_of(app), workspace=app.root, found=found, progress=progress, cancel=check.cancel)


async def checked(app: ProblemActions, recipe: Path) -> Check:
    """A check of the recipe, its data and model as they are now: the last one if nothing has changed since, else a new one."""
    from tuitune.preflight.gate import basis

    known = app.checks.get(recipe)
    if known is not None and known.basis is not None:
        now = await app.in_thread(lambda: basis(recipe), failed="Not checked")
        if now is not None and known.counts_for(now):
            return known
    return await look(app, recipe)


async def pass_gate(app: ProblemActions, view: View, *, force: bool) -> Passed | None:
    """The gate before a run of the recipe of `view`, which is saved; None when it must not start or is not wanted. Says why."""
    from tuitune.preflight import gate

    report = (await checked(app, view.path)).report
    if report is None:
        app.notify("The check did not come to its end: nothing was started.", title="Not started", severity="warning")
        return None
    errors = [finding for finding in report.findings if finding.severity == "error"]
    if errors and not (force and report.valid):
        count = f"{len(errors)} error{'s' * (len(errors) != 1)}"
        force_it = " To train all the same: F1, Run in spite of errors." if report.valid else ""
        app.notify(f"{view.title} has {count}: {key_of('problems.next')} goes there.{force_it}", title="Not started", severity="error")
        app.show_panel("problems")
        app.panel.focus_list()
        return None
    doubts = errors or gate.warned(report)
    if not doubts:
        return gate.passed(report)
    kind = "error" if errors else "warning"
    question = f"{len(doubts)} {kind}{'s' * (len(doubts) != 1)}: train {view.title} anyway?"
    choices = [Choice("s", "Show them", "show"), Choice("y", "Train anyway", "start")]
    answer = await app.push_screen_wait(Confirm(question, _listed(doubts), choices))
    if answer == "show":
        app.show_panel("problems")
        app.panel.focus_list()
    return gate.passed(report, force=force) if answer == "start" else None


def _listed(findings: list[Finding]) -> list[str]:
    lines = [f"{finding.id}  {printable(finding.message, limit=140)}" for finding in findings[:LISTED]]
    return lines + ([f"and {len(findings) - LISTED} more"] if len(findings) > LISTED else [])


async def fix(app: ProblemActions, recipe: Path, entry: Entry) -> None:
    """Put a problem right: in the editor what the editor knows, in the file (after a look at what changes) what preflight found."""
    if not entry.fix:
        app.notify(f"{entry.id} has no fix that could be applied for you; {key_of('problems.explain')} says what to do.")
    elif entry.problem is not None:
        view = await app.open_view("recipe", recipe)
        if view is not None:
            view.go_to(entry.problem.line, entry.problem.column)
            await app.run_action("fix", view)  # the editor's own, which one undo takes back
    elif not _may_write(app, recipe):
        return
    elif entry.stale:
        app.notify(f"{recipe.name} has changed since it was checked: {key_of('check.run')} checks it again.", title="Not fixed")
    else:
        await _fix_file(app, recipe, entry)


def _may_write(app: ProblemActions, recipe: Path) -> bool:
    """Whether no editor has changes that a new text on disk would go against; says so."""
    view = app.editor.views.get(f"recipe:{recipe}")
    if view is None or not view.dirty:
        return True
    app.notify(f"{view.title} has unsaved changes: save them first ({key_of('editor.save')}).", title="Not written", severity="warning")
    return False


async def _fix_file(app: ProblemActions, recipe: Path, entry: Entry) -> None:
    from tuitune.preflight.preview import preview

    check, finding = app.checks[recipe], entry.finding
    assert finding is not None
    text, wanted = check.text, finding.fix
    if text is None or wanted is None:
        return
    shown = await app.in_thread(lambda: preview(text, wanted), failed="Not fixed")
    if shown is None:
        return
    lines = [*changes(text, shown.text), *shown.files]
    answer = await app.push_screen_wait(Confirm(f"{printable(wanted.title)}?", lines, [Choice("y", "Apply", "apply")]))
    if answer != "apply" or not _may_write(app, recipe):
        return
    await _apply(app, recipe, text, wanted, "Fixed", "Not fixed")


async def write(app: ProblemActions, recipe: Path, text: str, change: Fix) -> None:
    """Write what a view makes of the recipe that it has read as `text`, as a finding's fix is written."""
    if _may_write(app, recipe):
        await _apply(app, recipe, text, change, "Written", "Not written")


async def _apply(app: ProblemActions, recipe: Path, text: str, change: Fix, title: str, failed: str) -> None:
    from tuitune.preflight.repair import apply_fixes

    done = await app.in_thread(lambda: apply_fixes(recipe, text, [change]), failed=failed)
    if done is not None:
        files = "".join(f"; written: {file.name}" for file in done.files)
        app.notify(f"{'; '.join(done.done)}{files}. F1, Undo last fix takes it back.", title=title)
        await _written(app, recipe)


async def undo(app: ProblemActions, recipe: Path) -> None:
    """Write the recipe as it was before the last fix of a finding, after a look at what changes."""
    from tuitune.preflight import repair
    from tuitune.recipe.document import read_document

    if not _may_write(app, recipe):
        return
    texts = await app.in_thread(lambda: (read_document(recipe).text, repair.before_last_fix(recipe)), failed="Nothing to undo")
    if texts is None:
        return
    question = f"Write {printable(recipe.name)} as it was before the last fix?"
    lines = [*changes(*texts), "Files that the fix has written stay."]
    answer = await app.push_screen_wait(Confirm(question, lines, [Choice("y", "Undo", "undo")]))
    if answer == "undo" and _may_write(app, recipe) and await app.in_thread(lambda: repair.undo(recipe), failed="Not undone") is not None:
        await _written(app, recipe)


async def _written(app: ProblemActions, recipe: Path) -> None:
    """The file is another now: so is what its views show, and what preflight finds where it has looked."""
    for view in list(app.editor.views.values()):
        if view.path == recipe:
            view.reread()
    app.watch_folder()
    if recipe in app.checks:
        await look(app, recipe)


def changes(before: str, after: str) -> list[str]:
    """The lines that differ, with - and +, at most DIFF_LINES of them."""
    from tuitune.workbench.views.recipe.compare import diff_lines

    found = [
        f"{line.sign} {re.sub(BLANKS, '  ', printable(line.text, limit=200))}" for line in diff_lines(before, after) if line.sign in "-+"
    ]
    return found[:DIFF_LINES] + ([f"and {len(found) - DIFF_LINES} more lines"] if len(found) > DIFF_LINES else [])
