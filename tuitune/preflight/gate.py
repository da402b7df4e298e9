"""The gate before a run: errors refuse, warnings ask, and what `--force` passes over is kept with the run."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tuitune.errors import UserError
from tuitune.preflight import report as printed
from tuitune.preflight.finding import Finding
from tuitune.preflight.model_files import locate_model
from tuitune.preflight.preflight import Report, preflight
from tuitune.recipe.document import read_document
from tuitune.recipe.recipe import resolve_path
from tuitune.text import printable
from tuitune.versions import installed

Stamp = tuple[str, int, int]  # (path, mtime in ns, size)


@dataclass(frozen=True)
class Passed:
    """Leave to train a recipe whose text is `checked`; `overridden`: the ids of the errors in spite of which."""

    checked: str
    overridden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Basis:
    """What a report rests on: as long as it stays the same, only this box can make another one differ."""

    text: str
    files: tuple[Stamp, ...]
    versions: tuple[tuple[str, str | None], ...]


def passed(report: Report, *, force: bool = False) -> Passed:
    """The gate's word on a report. UserError when it has errors and nobody forces it; a recipe that is none cannot be forced."""
    errors = [finding.id for finding in report.findings if finding.severity == "error"]
    if errors and not (force and report.valid):
        raise UserError(refusal(report))
    return Passed(report.text, tuple(dict.fromkeys(errors)))


def refusal(report: Report) -> str:
    """Why nothing was started, and what to do."""
    count, file = report.count("error"), printable(str(report.file))
    errors = f"{count} error{'s' * (count != 1)}"
    rest = ", or train in spite of them with --force" if report.valid else "; it cannot be built as it is, so --force does not help"
    return f"nothing was started: {file} has {errors}; put them right (`tuitune check {file} --fix` does what needs no question){rest}"


def warned(report: Report) -> list[Finding]:
    """The warnings that somebody should have seen before a run starts."""
    return [finding for finding in report.findings if finding.severity == "warning"]


def pass_gate(recipe: Path, workspace: Path, *, force: bool, as_json: bool, plain: bool = False, say: Callable[[str], None]) -> Passed:
    """Check a recipe on the command line and print errors and warnings as they come, with `as_json` on stderr.
    `workspace` is where the run would be started.

    Warnings wait for a yes when somebody sits at the terminal. UserError when the run must not start or is not wanted.
    """
    from tuitune.analyst.client import Analyst

    console = Console(stderr=as_json, highlight=False, soft_wrap=True, no_color=plain or None)
    analyst = Analyst()

    def show(finding: Finding) -> None:
        if finding.severity != "info":
            printed.print_finding(finding, console)

    try:
        analyst.start()  # its imports take seconds: meanwhile document and headers are read
        report = preflight(recipe, analyst, workspace=workspace, found=show, progress=lambda text: say(f"{text} …"))
    finally:
        analyst.close()
    leave = passed(report, force=force)
    warnings = len(warned(report))
    if warnings and not force and not as_json and sys.stdin.isatty() and sys.stdout.isatty() and not _yes(warnings):
        raise UserError("nothing was started")
    return leave


def _yes(warnings: int) -> bool:
    try:
        answer = input(f"{warnings} warning{'s' * (warnings != 1)}; train anyway? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


def basis(recipe: Path) -> Basis:
    """What a report on this recipe would rest on now. UserError when the recipe cannot be read. A stat a file."""
    document = read_document(recipe)
    named = [resolve_path(text, recipe.parent) for key, value in document.data.items() if key != "output" for text in _texts(value)]
    model = document.data.get("model")
    named += _in_the_cache(model) if isinstance(model, dict) else []
    stamps = tuple(sorted({stamp for path in named for stamp in _stamps(path)}))
    return Basis(document.text, stamps, tuple(installed().items()))


def _in_the_cache(model: dict[str, Any]) -> list[Path]:
    """The folders of models and adapters that are named by Hub id."""
    names = [str(model[key]) for key in ("name_or_path", "adapter") if model.get(key)]
    found = []
    for name in names:
        if not name.startswith((".", "/", "~")):
            with suppress(ValueError):  # no name that the Hub knows: preflight says so
                found.append(locate_model({**model, "name_or_path": name}))
    return [folder for folder in found if folder is not None]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _stamps(path: Path) -> Iterator[Stamp]:
    """Of a file, or of the files in a folder; nothing of what is not there."""
    try:
        entries = [path, *path.iterdir()] if path.is_dir() else [path]
        for entry in entries:
            info = os.stat(entry)
            yield str(entry), info.st_mtime_ns, info.st_size
    except (OSError, ValueError):  # a text of the recipe that names no file
        return
