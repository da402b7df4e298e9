"""What `tuitune check` prints: findings for people as they come, one document for scripts, and the catalogue itself."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tuitune.preflight.finding import Finding, Fix, Where, as_json
from tuitune.preflight.preflight import SEVERITIES, Report
from tuitune.preflight.registry import Check
from tuitune.preflight.repair import Applied, apply_fixes
from tuitune.text import printable

_STYLE = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def document(report: Report) -> dict[str, Any]:
    """The JSON document of `tuitune check --json`, without its "schema"."""
    return {
        "file": str(report.file),
        "findings": [as_json(finding) for finding in report.findings],
        "summary": {
            **{f"{severity}s": report.count(severity) for severity in SEVERITIES},
            "checks": len(report.ran),
            "skipped": report.skipped,
            "card": report.card.name,
            "seconds": report.seconds,
        },
    }


def fix(recipe: Path, report: Report) -> Applied | None:
    """Apply every automatic fix of a report, each kind once; None when there is none."""
    fixes: list[Fix] = []
    for finding in report.findings:
        if finding.fix and finding.fix.automatic and finding.fix not in fixes:
            fixes.append(finding.fix)
    return apply_fixes(recipe, report.text, fixes) if fixes else None


def print_fixed(fixed: Applied, console: Console) -> None:
    """What was changed, and how to take it back."""
    for title in fixed.done:
        console.print(Text(f"fixed: {printable(title)}", "green"))
    for file in fixed.files:
        console.print(Text(f"written: {printable(str(file))}", "green"))
    console.print(Text("take it back with --undo; checking again", "dim"))


def print_finding(finding: Finding, console: Console) -> None:
    """One paragraph: place, severity, id, message; the fix below it."""
    text = Text()
    text.append(f"{place(finding.where)}  ", "bold")
    text.append(f"{finding.severity} ", _STYLE[finding.severity])
    text.append(f"{finding.id}  ", "dim")
    text.append(printable(finding.message, newlines=True))
    if finding.fix:
        text.append(f"\n    {'--fix' if finding.fix.automatic else 'proposed'}: {printable(finding.fix.title)}", "green")
    console.print(text, soft_wrap=True)


def print_summary(report: Report, console: Console) -> None:
    """How many findings, for which card, and what was not checked."""
    if not report.findings:
        console.print(Text(f"{printable(str(report.file))}: no findings for {report.card.name}", "green"))
    else:
        words = ", ".join(f"{count} {severity}{'s' * (count != 1)}" for severity in SEVERITIES if (count := report.count(severity)))
        console.print(Text(f"{words} for {report.card.name}", "bold"))
    console.print(Text(f"{len(report.ran)} checks made, {len(report.skipped)} had nothing to look at", "dim"))


def place(where: Where) -> str:
    """file:line:column as far as known, with the row; the key when there is no line."""
    spot = ":".join(str(part) for part in (printable(where.file), where.line, where.column) if part not in ("", None))
    return f"{spot} row {where.row}" if where.row is not None else spot or where.key or "-"


def print_catalogue(checks: list[Check], console: Console) -> None:
    """One line a check."""
    for check in checks:
        console.print(
            Text.assemble((f"{check.id:<7}", "bold"), (f"{check.severity:<8} ", _STYLE[check.severity]), check.title), soft_wrap=True
        )


def print_explanation(check: Check, console: Console) -> None:
    """A check's own documentation."""
    console.print(Text.assemble((check.id, "bold"), f" {check.title} ", (f"({check.severity})", _STYLE[check.severity])))
    console.print(Text(check.explanation))
