"""The events tab and the effective config of a run as rows of text. Pure functions; the pages put them into lists."""

import json
from pathlib import Path
from time import localtime, strftime
from typing import Any

from tuitune.errors import UserError
from tuitune.recipe.ledger import read_ledger
from tuitune.text import printable
from tuitune.workbench.parts.role_lines import Line, Piece
from tuitune.workbench.run_state import Event, RunState
from tuitune.workbench.signs import event_sign

SOURCES = {"recipe": "", "default": "dim", "preset": "one", "adjusted": "warn"}


def event_line(event: Event) -> Line:
    """Time, sign, step and what happened."""
    mark, role = event_sign(event.kind)
    step = f"step {event.step}" if event.step is not None else ""
    return (
        (f"{clock(event.time)} ", "dim"),
        (mark, role),
        (f" {step:<12}", "dim"),
        (event.words, "" if role in ("dim", "good", "one") else role),
    )


def traceback_lines(state: RunState) -> list[Line]:
    """After a crash: its traceback or the log's tail, line by line."""
    crash = state.crash
    if crash is None:
        return []
    if crash.traceback:
        return [(("", ""),), (("traceback", "title"),), *(((line, ""),) for line in crash.traceback.splitlines())]
    return [(("", ""),), (("the log's last lines", "title"),), *(((line, ""),) for line in crash.tail)] if crash.tail else []


def config_lines(effective: Path) -> list[Line]:
    """Every value the run trains with: section, key, value, where it came from and why. Says so when there is no ledger yet."""
    if not effective.exists():
        return [(("The trainer has not written its effective config yet: it does when the model is loaded.", "dim"),)]
    try:
        entries = read_ledger(effective)
    except UserError as error:
        return [((printable(str(error), limit=300), "error"),)]
    rows = sorted(entries, key=lambda entry: entry.source == "default")  # what somebody decided comes first
    keys = max((len(f"{entry.section}.{entry.key}") for entry in rows), default=0)
    lines: list[Line] = []
    for entry in rows:
        name = printable(f"{entry.section}.{entry.key}" if entry.section else entry.key, limit=80)
        source = f"line {entry.line}" if entry.source == "recipe" and entry.line else entry.source
        default = entry.source == "default"
        pieces: list[Piece] = [(f"{name:<{keys}}  ", "dim" if default else ""), (f"{source:<9}  ", SOURCES.get(entry.source, ""))]
        pieces.append((value_text(entry.value), "dim" if default else "title"))
        if entry.why:
            pieces.append((f"  {printable(entry.why)}", "dim"))
        lines.append(tuple(pieces))
    return lines


def value_text(value: Any) -> str:
    """A value as the recipe would write it, in one line."""
    if isinstance(value, str):
        return printable(value, limit=200)
    try:
        return printable(json.dumps(value, ensure_ascii=False), limit=200)
    except (TypeError, ValueError):
        return printable(str(value), limit=200)


def clock(time: float) -> str:
    """The wall clock of a record."""
    try:
        return strftime("%H:%M:%S", localtime(time))
    except (OverflowError, ValueError, OSError):
        return "--:--:--"
