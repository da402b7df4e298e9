"""`tuitune inspect`: the rows of a recipe through an analyst of its own, and how the terminal shows them. Imports no torch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from tuitune.analyst.client import Analyst
from tuitune.analyst.document import IGNORED, Inspection, Tokens, as_json, faults, totals
from tuitune.analyst.survey_document import Survey, sentences, survey_json
from tuitune.errors import UserError
from tuitune.text import printable

__all__ = ["as_json", "inspect_file", "print_rows", "print_survey", "survey_file", "survey_json"]

STYLES = {"assistant": "green", "user": "blue", "system": "yellow", "tool": "magenta", "template": "dim", "unknown": "red"}
STYLES |= {"prompt": "blue", "completion": "green", "chosen": "green", "rejected": "green", "text": "green"}  # columns of strings
MOST = 256  # rows that are found and inspected at most
SHOWN = 20  # rows that are written out on a terminal when nobody asks for certain ones


def inspect_file(path: Path, *, rows: Sequence[int] | None, find: str | None, say: Callable[[str], None]) -> Inspection:
    """The rows of a recipe: those with these numbers, or the first that `find` means (see tuitune.analyst.find) of the whole set, or a
    sample. UserError when they cannot be prepared."""
    with _asking(path, say) as ask:
        if find is not None:
            found = ask("find", {"what": find})
            say(f"{found['count']:,} of {found['looked']:,} rows")
            wanted = set(found["rows"] if rows is None else rows)
            rows = [row for row in found["rows"] if row in wanted][:MOST]
        return msgspec.convert(ask("inspect", {"rows": rows}), Inspection, strict=False)


def survey_file(path: Path, *, say: Callable[[str], None]) -> Survey:
    """Figures over all rows of a recipe's training set; UserError when they cannot be prepared."""
    with _asking(path, say) as ask:
        return msgspec.convert(ask("survey", {}), Survey)


def print_survey(survey: Survey, console: Console) -> None:
    """The figures in words, and how long the rows are."""
    for line in sentences(survey):
        console.print(Text(line))
    histogram = survey.histograms["all"]
    most = max(histogram.counts, default=0)
    for at, count in enumerate(histogram.counts):
        first = at * histogram.step
        mark = "  ◂ max_length" if survey.max_length is not None and first <= survey.max_length < first + histogram.step else ""
        console.print(Text(f"{first:>8,} – {first + histogram.step - 1:<8,} {'▇' * round(40 * count / most):<40} {count:>9,}{mark}"))


@contextmanager
def _asking(path: Path, say: Callable[[str], None]) -> Iterator[Callable[[str, dict[str, Any]], dict[str, Any]]]:
    """(op, arguments) → answer, by an analyst of its own."""
    if not path.is_file():
        raise UserError(f"{printable(str(path))} does not exist; name a recipe", exit_code=2)
    analyst = Analyst()

    def ask(op: str, args: dict[str, Any]) -> dict[str, Any]:
        return analyst.request(op, {"recipe": str(path.resolve()), **args}, progress=lambda text: say(f"{text} …"))

    try:
        say("loading the libraries …")
        yield ask
    finally:
        analyst.close()


def print_rows(inspection: Inspection, console: Console) -> None:
    """The rows as text: colours by role, what is in the loss underlined and between ⟦ and ⟧."""
    for row in inspection.rows[:SHOWN]:
        wrong = faults(inspection, row)
        console.print(Text.assemble((f"row {row.row}", "bold"), f"  {printable(row.file)}:{row.line}  ", (", ".join(wrong), "bold yellow")))
        for tokens in row.sequences:
            name = tokens.name if tokens.pack is None else f"{tokens.name}, pack {tokens.pack}"
            console.print(Text(f"{name}: {len(tokens.ids)} tokens, {tokens.trained} in the loss", "dim"))
            console.print(_text(inspection, tokens))
        console.print()
    count = totals(inspection)
    more = f"; {len(inspection.rows) - SHOWN} more are not shown, --json has all" if len(inspection.rows) > SHOWN else ""
    console.print(
        f"{count['shown']} of {count['rows']} rows: {count['kept']} kept, {count['truncated']} truncated, {count['dropped']} dropped; "
        f"{count['tokens']} tokens, {count['trained_tokens']} in the loss{more}"
    )
    for sentence in inspection.left_out:
        console.print(Text(f"left out: {printable(sentence)}", "yellow"))


def _text(inspection: Inspection, tokens: Tokens) -> Text:
    text = Text()
    inside = False
    for id, label, role in zip(tokens.ids, tokens.labels, tokens.roles, strict=True):
        if (label != IGNORED) != inside:
            inside = not inside
            text.append("⟦" if inside else "⟧", "bold")
        style = STYLES.get(inspection.names[role].rpartition("+")[2], "")
        text.append(printable(inspection.texts[id], newlines=True), f"{style} underline" if inside else style)
    return text.append("⟧", "bold") if inside else text
