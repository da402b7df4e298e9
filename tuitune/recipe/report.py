"""`tuitune validate`: a recipe's problems for people, for scripts, and as one line each."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuitune.recipe.document import read_document
from tuitune.recipe.problems import Problem, dotted
from tuitune.recipe.schema import Schema, load_schema
from tuitune.recipe.validate import validate
from tuitune.text import printable

if TYPE_CHECKING:
    from rich.console import Console

_STYLE = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def validate_file(path: Path, schema: Schema | None = None) -> list[Problem]:
    """All problems of a recipe file. Raises UserError when the file or the installed libraries cannot be read."""
    document = read_document(path)
    return validate(document, schema or load_schema())


def as_json(problems: list[Problem], file: Path) -> dict[str, Any]:
    """The document that `tuitune validate --json` prints; offsets in `edits` count characters of the file from 0."""
    return {
        "schema": 1,
        "file": str(file),
        "problems": [
            {
                "code": problem.code,
                "severity": problem.severity,
                "message": problem.message,
                "line": problem.line,
                "column": problem.column,
                "end_line": problem.end_line,
                "end_column": problem.end_column,
                "path": dotted(problem.path),
                "fix": problem.fix
                and {
                    "title": problem.fix.title,
                    "edits": [{"start": edit.start, "end": edit.end, "text": edit.text} for edit in problem.fix.edits],
                },
            }
            for problem in problems
        ],
        "summary": count(problems),
    }


def count(problems: list[Problem]) -> dict[str, int]:
    """{"errors": …, "warnings": …}"""
    return {f"{kind}s": sum(problem.severity == kind for problem in problems) for kind in ("error", "warning")}


def one_line(problem: Problem, file: Path) -> str:
    """file:line:column: message"""
    return f"{printable(str(file))}:{problem.line}:{problem.column}: {problem.message}"


def print_problems(problems: list[Problem], console: "Console", file: Path) -> None:
    """One paragraph a problem (place, message, fix), then how many there are."""
    from rich.text import Text

    for problem in problems:
        text = Text()
        text.append(f"{printable(str(file))}:{problem.line}:{problem.column}", "bold")
        text.append(f"  {problem.severity} ", _STYLE[problem.severity])
        text.append(f"{problem.code}  ", "dim")
        text.append(problem.message)
        if problem.fix:
            text.append(f"\n    fix: {printable(problem.fix.title)}", "green")
        console.print(text, soft_wrap=True)
    numbers = count(problems)
    if not problems:
        console.print(Text(f"{printable(str(file))}: no problems", "green"))
    else:
        words = ", ".join(f"{number} {name if number != 1 else name[:-1]}" for name, number in numbers.items())
        console.print(Text(words, "bold"))
