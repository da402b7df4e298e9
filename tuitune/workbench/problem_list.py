"""What the PROBLEMS page lists of a recipe: its live problems and what preflight found, as one list, and where each entry leads.

Plain data and functions; imports nothing of Textual, and the recipe package only when it is needed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.preflight.finding import Finding, Where
    from tuitune.preflight.gate import Basis
    from tuitune.preflight.preflight import Report
    from tuitune.recipe.problems import Problem

RECIPE_KINDS = ("recipe", "tokens", "template", "alignment", "plan")  # kinds of view whose path is a recipe
ORDER = ("error", "warning", "info")
KEPT_S = 300.0  # seconds for which a report counts at F5 when nothing changed: GPU and disk are others by then
_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt")


@dataclass
class Check:
    """Preflight of one recipe, while it goes on and after. Changed by the event loop alone.

    `text`: the recipe that is checked; `doing`: what happens now, "" when it is over; `report`: None unless it came to its end.
    """

    recipe: Path
    text: str | None = None
    basis: Basis | None = None
    findings: list[Finding] = field(default_factory=list)
    doing: str = "reading the recipe"
    report: Report | None = None
    ended: float = 0.0
    cancel: threading.Event = field(default_factory=threading.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def counts_for(self, basis: Basis) -> bool:
        """Whether its report says what another check would say now."""
        return self.report is not None and self.basis == basis and monotonic() - self.ended < KEPT_S


@dataclass(frozen=True)
class Entry:
    """One line of the list: a problem of the text on screen, or a finding. `stale`: the text has changed since it was found.

    `id`: the check's; the problem's code when no check speaks of it.
    """

    id: str
    severity: str
    message: str
    place: str
    fix: str = ""
    stale: bool = False
    problem: Problem | None = None
    finding: Finding | None = None


@dataclass(frozen=True)
class Target:
    """What to open: a kind of view, its path, a place in it. Line and column from 1 (0: wherever it is), row of the data from 0."""

    kind: str
    path: Path
    line: int = 0
    column: int = 1
    row: int | None = None


def entries_of(recipe: Path, problems: Sequence[Problem] | None, check: Check | None, text: str | None) -> list[Entry]:
    """The list for a recipe: live problems by their position, then findings, errors first.

    problems: None when no editor shows the recipe; else preflight's own findings on the same problems give way to them. text: what the
    editor shows, None without one.
    """
    stale = is_stale(check, text)
    found = check.findings if check else []
    ids = {} if stale else {_spot(finding): finding.id for finding in found if "code" in finding.evidence}
    live = [_of_problem(recipe, problem, ids) for problem in problems or ()]
    rest = [finding for finding in found if problems is None or "code" not in finding.evidence]
    rest.sort(key=lambda finding: ORDER.index(finding.severity))
    return live + [_of_finding(finding, stale) for finding in rest]


def is_stale(check: Check | None, text: str | None) -> bool:
    """Whether the recipe is another than the one that was checked."""
    return check is not None and None not in (text, check.text) and check.text.replace("\r\n", "\n") != text  # type: ignore[union-attr]


def _spot(finding: Finding) -> tuple[Any, ...]:
    return finding.evidence.get("code"), finding.where.line, finding.where.column


def _of_problem(recipe: Path, problem: Problem, ids: dict[tuple[Any, ...], str]) -> Entry:
    id = ids.get((problem.code, problem.line, problem.column), problem.code)
    place = f"{printable(recipe.name)}:{problem.line}:{problem.column}"
    return Entry(id, problem.severity, problem.message, place, problem.fix.title if problem.fix else "", problem=problem)


def _of_finding(finding: Finding, stale: bool) -> Entry:
    fix = finding.fix.title if finding.fix else ""
    return Entry(finding.id, finding.severity, finding.message, place_words(finding.where), fix, stale, finding=finding)


def place_words(where: Where) -> str:
    """The place in few characters: the file's name with line and column, the row, else the key."""
    name = printable(Path(where.file).name) if where.file else ""
    spot = ":".join(str(part) for part in (name, where.line, where.column) if part not in ("", None))
    row = f"row {where.row}" if where.row is not None else ""
    return " ".join(filter(None, (spot, row))) or where.key


def counted(entries: Sequence[Entry], severity: str) -> int:
    """How many entries of a severity hold for the text as it is."""
    return sum(entry.severity == severity and not entry.stale for entry in entries)


def headline(check: Check | None, stale: bool, key: str) -> str:
    """The line above the findings: what preflight does, or has found. `key`: the one that checks again."""
    if check is None:
        return ""
    if check.doing:
        return f"preflight goes on: {printable(check.doing)} … ({key} ends it)"
    if check.report is None:
        return f"preflight did not come to its end ({key} checks again)"
    report = check.report
    counts = [f"{count} {severity}{'s' * (count != 1)}" for severity in ORDER if (count := report.count(severity))]  # type: ignore[arg-type]
    words = ", ".join(counts) or "nothing found"
    if stale:
        return f"the recipe has changed since preflight ({key} checks again), which had found: {words}"
    return f"preflight for {printable(report.card.name)}: {words}, {len(report.ran)} checks made"


def target_of(finding: Finding, recipe: Path, text: str | None, kinds: Collection[str]) -> Target:
    """Where a finding is to be seen. `text`: the recipe as it is now, if it is known; `kinds`: of views that there are."""
    where = finding.where
    if where.view in ("tokens", "template", "alignment") and where.view in kinds:
        return Target(where.view, recipe, row=where.row if where.split != "eval" else None)
    file = Path(where.file) if where.file else recipe
    if where.view == "dataset" and file != recipe:
        return Target("data", file, _data_row(where, text))
    if file.resolve() == recipe.resolve():
        line, column = _key_place(where.key, text) or (where.line or 1, where.column or 1)
        return Target("recipe", recipe, line, column)
    from tuitune.workbench.workspace import kind_of

    if file.suffix in _WEIGHTS:
        file = file.parent  # the model's folder, with its files and their sizes
    return Target(kind_of(file), file, where.line or 0, where.column or 1)


def _key_place(key: str, text: str | None) -> tuple[int, int] | None:
    """(line, column) of a key's value in a recipe's text; None when it is not written there."""
    from tuitune.recipe.document import parse
    from tuitune.recipe.problems import dotted

    if not key or text is None:
        return None
    document = parse(text)
    path = next((path for path in document.entries if dotted(path) == key), None)
    span = document.value_span(path) if path is not None else None
    return (span.line, span.column) if span else None


def _data_row(where: Where, text: str | None) -> int:
    """The row, from 1, of a finding's data file: its row of the split where that is all in one file, else what its line says."""
    from tuitune.recipe.document import parse

    dataset = parse(text).data.get("dataset") if text is not None else None
    sources = dataset.get(where.split) if isinstance(dataset, dict) else None
    alone = isinstance(sources, list) and len(sources) == 1 and isinstance(sources[0], dict) and "weight" not in sources[0]
    if where.row is not None and alone:
        return where.row + 1
    header = Path(where.file).name.endswith((".csv", ".tsv", ".csv.gz", ".tsv.gz"))
    return max(1, (where.line or 1) - header)
