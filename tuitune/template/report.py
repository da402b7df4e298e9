"""`tuitune template`: a recipe's chat template through an analyst of its own, and how the terminal shows it. Imports no torch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from tuitune.analyst.client import Analyst
from tuitune.analyst.report import STYLES
from tuitune.errors import UserError
from tuitune.files import write_atomically
from tuitune.template.document import (
    ComparedRow,
    Comparison,
    Conversation,
    Fault,
    Marking,
    TemplateReport,
    as_json,
    compared_totals,
    prefix_totals,
)
from tuitune.text import printable

__all__ = ["as_json", "ask", "print_report", "write_marked"]

SHOWN = 10  # rows that fail or differ that are listed on a terminal
PATCH = {"+": "green", "-": "red", "@": "cyan"}


def ask(recipe: Path, *, rows: Sequence[int] | None, other: str | None, mark: bool, say: Callable[[str], None]) -> TemplateReport:
    """The report of a recipe; UserError when there is no template or the rows cannot be rendered."""
    if not recipe.is_file():
        raise UserError(f"{printable(str(recipe))} does not exist; name a recipe", exit_code=2)
    analyst = Analyst()
    try:
        say("loading the libraries …")
        wishes: dict[str, Any] = {"recipe": str(recipe.resolve()), "rows": rows, "other": other, "mark": mark}
        answer = analyst.request("template", wishes, progress=lambda text: say(f"{text} …"))
    finally:
        analyst.close()
    return msgspec.convert(answer, TemplateReport, strict=False)


def write_marked(report: TemplateReport, path: Path) -> Path:
    """Write the marked template. UserError when there is none, or when another file is there already."""
    marking = report.marking
    if marking is None or marking.refused is not None:
        raise UserError(f"nothing was written: {marking.refused if marking else 'no markers were asked for'}")
    if path.exists() and path.read_bytes() != marking.text.encode():
        raise UserError(f"{printable(str(path))} exists and holds something else; name another file or remove it", exit_code=2)
    write_atomically(path, marking.text)
    return path


def marked_path(recipe: Path) -> Path:
    """Where the marked template of a recipe goes when nobody says otherwise: beside it."""
    return recipe.with_name(f"{recipe.stem}.generation.jinja")


def print_report(report: TemplateReport, console: Console, *, all_rows: bool, written: Path | None = None) -> None:
    """The report as text: source and first render (`all_rows`: all of them), unless a comparison or markers were asked for; then what
    the prefix test found and what was asked for. `written`: where the marked template is."""
    source = report.source
    markers = "says what the assistant writes ({% generation %})" if source.generation else "has no {% generation %}"
    console.print(Text(source.origin, "bold"))
    console.print(Text(f"sha256 {source.sha256[:16]}…, {source.text.count(chr(10)) + 1} lines, {markers}", "dim"))
    if report.note:
        console.print(Text(report.note, "yellow"))
    asked = report.comparison is not None or report.marking is not None
    if not asked:
        console.print(Text(printable(source.text, newlines=True)))
    for row in report.rows if all_rows else report.rows[: 0 if asked else 1]:
        for talk in row.conversations:
            console.print(Text.assemble((f"row {row.row} {talk.name}", "bold"), f"  {printable(row.file)}:{row.line}"))
            console.print(rendered(talk))
    _print_prefix(report, console)
    if report.comparison is not None:
        _print_comparison(report.comparison, console)
    if report.marking is not None:
        _print_marking(report.marking, console)
    if written is not None:
        console.print(f"{printable(str(written))} is written; to train with it: tokenizer: {{chat_template: {printable(written.name)}}}")


def rendered(talk: Conversation) -> Text:
    """A render in the colours of its roles."""
    if talk.error is not None:
        return Text(talk.error, "red")
    text = Text()
    for part in talk.spans:
        style = STYLES["template"] if part.source == "template" else STYLES.get(part.role, "")
        text.append(printable(talk.text[part.start : part.end], newlines=True), style)
    return text.append(f"… (+{talk.left_out:,} characters)", "dim") if talk.left_out else text


def prefix_line(report: TemplateReport) -> str:
    """The result of the prefix test in one sentence."""
    count = prefix_totals(report.rows)
    missing = f"; not rendered: {count['not_rendered']:,}" if count["not_rendered"] else ""
    if not count["failing_conversations"]:
        return f"prefix test: every render begins with that of the turns before it ({count['turns']:,} turns){missing}"
    kinds = (("failing_turns", "turns that change what stands before them"), ("failing_prompts", "answers that do not follow their prompt"))
    listed = "; ".join(f"{words}: {count[name]:,}" for name, words in kinds if count[name])
    return f"prefix test: fails in {count['failing_conversations']:,} of {count['conversations']:,} conversations ({listed}){missing}"


def fault_line(fault: Fault) -> str:
    """A failed test in words."""
    what = "with the generation prompt " if fault.test == "prompt" else ""
    unit = "character" if fault.level == "text" else "token"
    place = fault.difference
    return (
        f"turn {fault.turn}: the render before it {what}is not the beginning of the one with it, from {unit} {place.at} on: "
        f"{printable(repr(place.one))} became {printable(repr(place.other))}"
    )


def _print_prefix(report: TemplateReport, console: Console) -> None:
    console.print(prefix_line(report))
    failing = [(row, talk) for row in report.rows for talk in row.conversations if talk.faults or talk.error]
    for row, talk in failing[:SHOWN]:
        reason = talk.error or fault_line(talk.faults[0])
        console.print(Text(f"  row {row.row} {talk.name}: {printable(reason)}", "yellow"))
    if len(failing) > SHOWN:
        console.print(Text(f"  … and {len(failing) - SHOWN} more; --json has all", "dim"))


def patch_text(patch: str) -> Text:
    """A unified diff in colours; its first two lines name the sources."""
    lines = printable(patch, newlines=True).split("\n")
    return Text("\n").join(Text(line, "bold" if at < 2 else PATCH.get(line[:1], "")) for at, line in enumerate(lines))


def compared_line(row: ComparedRow) -> str:
    """Where a conversation differs, in words."""
    if row.error is not None:
        return f"row {row.row} {row.name}: {row.error}"
    if row.text is not None:
        return (
            f"row {row.row} {row.name}: character {row.text.at}: {printable(repr(row.text.one))} and {printable(repr(row.text.other))}"
            + (f"; token {row.ids.at}" if row.ids is not None else "; the same tokens")
        )
    return f"row {row.row} {row.name}: the same"


def comparison_line(comparison: Comparison) -> str:
    """The counts of a comparison in one sentence."""
    count = compared_totals(comparison)
    fails = f", {count['not_rendered']:,} not rendered by the other" if count["not_rendered"] else ""
    return f"conversations: {count['equal']:,} the same, {count['different']:,} different ({count['different_ids']:,} in tokens){fails}"


def _print_comparison(comparison: Comparison, console: Console) -> None:
    console.print(Text(f"\nagainst {comparison.other.origin}", "bold"))
    console.print(patch_text(comparison.patch) if comparison.patch else Text("the sources are the same", "dim"))
    console.print(comparison_line(comparison))
    different = [row for row in comparison.rows if not row.equal]
    for row in different[:SHOWN]:
        console.print(Text(f"  {compared_line(row)}", "yellow"))


def marking_lines(marking: Marking) -> list[str]:
    """What was proven of a marked template, or why there is none."""
    if marking.refused is not None:
        return [f"no markers: {marking.refused}"]
    lines = [
        f"proven on {marking.proven:,} of {marking.total:,} conversations: the render is the same, and the mask "
        f"({marking.masked:,} tokens) is what the assistant writes in {marking.turns:,} turns, end of turn included"
    ]
    if marking.without_end:
        lines.append(f"turns without a token that ends them: {marking.without_end:,}; a model trained so may not learn to stop")
    if marking.unreached:
        shown = ", ".join(map(str, marking.unreached[:12])) + (" …" if len(marking.unreached) > 12 else "")
        lines.append(f"these rows print nothing of lines {shown}: they stay as they are")
    return lines


def _print_marking(marking: Marking, console: Console) -> None:
    console.print()
    if marking.patch:
        console.print(patch_text(marking.patch))
    for line in marking_lines(marking):
        console.print(Text(printable(line), "yellow" if marking.refused else ""))
