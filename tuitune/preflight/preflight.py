"""All of preflight for one recipe: what the document and the headers say at once, the rest from the analyst, then the box.

Blocks its caller and belongs into a thread where nothing may block.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, TypeVar

from tuitune.analyst.render_watch import STUCK
from tuitune.errors import UserError
from tuitune.planning import settled
from tuitune.preflight.box import Box, look_at_box
from tuitune.preflight.box_context import BoxContext
from tuitune.preflight.cards import Card, this_box
from tuitune.preflight.context import Context, DocumentContext, told_by
from tuitune.preflight.finding import Finding, Where, from_json
from tuitune.preflight.registry import Stage, all_checks
from tuitune.preflight.run import NOT_CHECKED, Outcome, not_checked, run_checks
from tuitune.preflight.template.places import of_template
from tuitune.recipe.document import read_document
from tuitune.recipe.problems import CODES, Problem, Severity
from tuitune.recipe.recipe import from_document
from tuitune.recipe.schema import load_schema
from tuitune.recipe.validate import validate

Result = TypeVar("Result")
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


class Asks(Protocol):
    """tuitune.analyst.client.Analyst, as far as preflight needs it."""

    def request(
        self,
        op: str,
        args: dict[str, Any],
        *,
        progress: Callable[[str], None] | None = None,
        part: Callable[[Any], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> dict[str, Any]: ...


@dataclass
class Report:
    """`text` of the recipe that was checked; `findings` in the order in which they came; `ran`, `skipped` (id → why): the checks;
    `seconds`: phase → seconds; `valid`: whether it is a recipe at all, if not only its own problems were looked at."""

    file: Path
    text: str
    card: Card
    findings: list[Finding] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    valid: bool = True

    def count(self, severity: Severity) -> int:
        """How many findings of this severity."""
        return sum(finding.severity == severity for finding in self.findings)


def preflight(
    path: Path,
    analyst: Asks,
    card: Card | None = None,
    *,
    workspace: Path | None = None,
    look: Callable[[], Box] = look_at_box,
    found: Callable[[Finding], None] = lambda finding: None,
    progress: Callable[[str], None] = lambda text: None,
    cancel: threading.Event | None = None,
) -> Report:
    """Check the recipe at `path` for `card` (None: the one of this box); `found` gets each finding as it comes.

    workspace: where `output.runs` starts from (the recipe's folder when None); look: how this box is looked at, meanwhile.
    UserError when the recipe cannot be read; tuitune.analyst.client.Cancelled when `cancel` is set while the analyst works.
    """
    document = read_document(path)
    report = Report(path, document.text, card or this_box())
    began = monotonic()

    def note(phase: str) -> None:
        nonlocal began
        report.seconds[phase] = round(monotonic() - began, 3)
        began = monotonic()

    def add(finding: Finding) -> None:
        if finding.id == NOT_CHECKED and any(_same_reason(finding, other) for other in report.findings):
            return  # what cannot be looked at stops checks on both sides of the analyst
        report.findings.append(finding)
        found(finding)

    def include(outcome: Outcome) -> None:
        report.ran += [id for id in outcome.ran if id not in report.ran]
        report.skipped |= outcome.skipped

    problems = validate(document, load_schema())
    outcome = run_checks(all_checks(), DocumentContext(document, path, problems), {Stage.RECIPE}, add)
    include(outcome)
    explained = {(finding.evidence.get("code"), finding.where.line, finding.where.column) for finding in outcome.findings}
    for problem in problems:
        if (problem.code, problem.line, problem.column) not in explained:
            add(of_problem(problem, path))
    note("recipe")
    if any(problem.severity == "error" for problem in problems):
        left = "the recipe has errors, which come first"
        report.skipped |= {check.id: left for check in all_checks() if max(check.stages) > Stage.RECIPE}
        report.valid = False
        return report
    recipe = from_document(document, path, path.parent)
    looking = in_thread(look)
    try:
        headers = Context(settled(recipe, report.card)[0], document, report.card)
    except UserError as error:  # no micro-batch fits, or there is no plan to choose one by: the trainer would refuse it as well
        headers = Context(settled(recipe, None)[0], document, report.card)
        add(not_checked(str(error), headers.at("launch", "rows_per_update")))
    include(run_checks(all_checks(), headers, {Stage.HEADERS}, add, progress))
    note("headers")
    _ask(report, analyst, headers, add, progress, cancel)
    note("analyst")
    around = BoxContext(looking.result(), report.card, workspace or path.resolve().parent, headers)
    include(run_checks(all_checks(), around, {Stage.BOX}, add, progress))
    note("box")
    return report


def _same_reason(one: Finding, other: Finding) -> bool:
    """Whether both say that the same thing cannot be looked at; one may name the recipe's line as well."""
    return other.id == one.id and (one.message in other.message or other.message in one.message)


def in_thread(call: Callable[[], Result]) -> "Future[Result]":
    """What `call` returns, worked out meanwhile; the thread ends with the process."""
    made: Future[Result] = Future()

    def run() -> None:
        try:
            made.set_result(call())
        except BaseException as error:
            made.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return made


def _ask(
    report: Report,
    analyst: Asks,
    context: Context,
    add: Callable[[Finding], None],
    progress: Callable[[str], None],
    cancel: threading.Event | None,
) -> None:
    """The stages that the analyst runs. When it cannot end them (killed, out of memory, a template that loops) that is a finding."""
    args = {"recipe": str(report.file.resolve()), "card": asdict(report.card)}
    try:
        done = analyst.request("check", args, progress=progress, part=lambda part: add(from_json(part)), cancel=cancel)
    except UserError as error:
        where = of_template(context) if str(error) == STUCK else Where(str(report.file))
        add(not_checked(str(error), where))
        return
    report.ran += [id for id in done["ran"] if id not in report.ran]
    report.skipped |= done["skipped"]


def of_problem(problem: Problem, file: Path) -> Finding:
    """A recipe problem that no check speaks of, as a finding under its own code."""
    made = told_by(problem, file)
    return Finding(problem.code, problem.severity, CODES[problem.code], made.message, made.where, made.evidence, made.fix)
