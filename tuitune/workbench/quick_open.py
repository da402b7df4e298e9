"""What quick open finds: the prefixes, the entries of each, their order. Plain data; of Textual only the fuzzy matcher."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.fuzzy import Matcher

from tuitune.text import printable
from tuitune.workbench.commands import registry
from tuitune.workbench.signs import state_sign

if TYPE_CHECKING:
    from tuitune.runs.listing import RunSummary
    from tuitune.workbench.views.view import Symbol
    from tuitune.workbench.watch import Seen

SHOWN = 200  # entries listed at most; narrowing down is what typing is for
SCORED = 1000  # entries that the fuzzy matcher looks at, so that a key takes milliseconds in a folder of any size
PREFIXES = {
    ">": "commands",
    "@": "keys of the recipe",
    "#": "rows of the data file: a number, or a text to find",
    ":": "go to a line",
    "?": "what can be typed here",
}


@dataclass(frozen=True)
class Entry:
    """One line to choose. kind says what choosing it does: a kind of view, "command", "line", "rows" or "prefix"."""

    kind: str
    title: str
    detail: str = ""
    hint: str = ""
    target: str | Path | tuple[int, int] = ""
    sign: str = " "


def split_prefix(text: str) -> tuple[str, str]:
    """(prefix or "", what follows)."""
    return (text[0], text[1:].strip()) if text[:1] in PREFIXES else ("", text.strip())


def files_and_runs(seen: Seen | None) -> list[Entry]:
    """Everything that can be opened: living runs first, then recipes, data, models, other runs, other texts."""
    if seen is None:
        return []
    there = seen.workspace
    entries = [_run(run) for run in seen.living]
    for kind, sign, paths in (("recipe", "≡", there.recipes), ("data", "▤", there.data), ("text", "◆", there.models)):
        entries += [_file(kind, sign, path, there.relative(path)) for path in paths]
    entries += [_run(run) for run in seen.runs if run not in seen.living]
    return entries + [_file("text", " ", path, there.relative(path)) for path in there.texts]


def _file(kind: str, sign: str, path: Path, relative: str) -> Entry:
    folder = str(Path(relative).parent)
    return Entry(kind, printable(path.name), "" if folder == "." else printable(folder), "", path, sign)


def _run(run: RunSummary) -> Entry:
    step = f"{run.step or 0}/{run.max_steps}" if run.max_steps else ""
    return Entry("run", printable(run.id), f"run {run.state}", step, run.path, state_sign(run.state)[0])


def commands(kind: str) -> list[Entry]:
    """The commands that hold for a kind of view, by title."""
    held = [command for command in registry.all_commands() if command.holds(kind) and command.id != "quick.commands"]
    return [
        Entry("command", command.title, command.help, registry.key_label(command.keys[0]) if command.keys else "", command.id)
        for command in sorted(held, key=lambda command: command.title.casefold())
    ]


def symbols(found: Iterable[Symbol]) -> list[Entry]:
    """Sections and keys, in the order of the file."""
    return [
        Entry(
            "line", "  " * symbol.depth + printable(symbol.name), printable(symbol.detail), f":{symbol.line}", (symbol.line, symbol.column)
        )
        for symbol in found
    ]


def line(text: str) -> list[Entry]:
    """ "12" or "12:5" → one entry; anything else a hint."""
    number, _, column = text.partition(":")
    if not number.isdigit() or int(number) < 1:
        return [Entry("", "Type the number of a line", "12, or 12:5 for a column")]
    place = (int(number), int(column) if column.isdigit() and int(column) else 1)
    return [Entry("line", f"Go to line {place[0]}" + (f", column {place[1]}" if place[1] > 1 else ""), target=place)]


def rows(text: str, kind: str) -> list[Entry]:
    """A row of the data file on screen by its number, or the next one that holds a text."""
    if kind != "data":
        return [Entry("", "No rows here", "open a data file for its rows")]
    if not text:
        return [Entry("", "Type the number of a row, or a text to find")]
    found = [Entry("rows", f"Find rows with {printable(text, limit=60)}", target=text)]
    return [Entry("line", f"Go to row {int(text):,}", target=(int(text), 1)), *found] if text.isdecimal() and int(text) else found


def prefixes() -> list[Entry]:
    """The help on prefixes."""
    return [Entry("prefix", "…", "recipes, data, models and runs by name", target="")] + [
        Entry("prefix", prefix, words, target=prefix) for prefix, words in PREFIXES.items() if prefix != "?"
    ]


def rank(entries: Sequence[Entry], query: str, recent: Sequence[object] = ()) -> list[Entry]:
    """The entries that match, best first; without a query all of them. Targets in `recent` (newest first) come before equals."""
    age = {target: position for position, target in enumerate(recent)}
    if not query:
        return sorted(entries, key=lambda entry: age.get(entry.target, len(age)))[:SHOWN]
    letters = query.casefold().replace(" ", "")
    in_order = re.compile(".*?".join(re.escape(letter) for letter in letters))  # cheap beside the fuzzy matcher
    found = [(position, entry) for position, entry in enumerate(entries) if in_order.search(f"{entry.detail}/{entry.title}".casefold())]
    if len(found) > SCORED:
        found.sort(key=lambda item: letters not in item[1].title.casefold())
    matcher = Matcher(letters)
    scored = []
    for position, entry in found[:SCORED]:
        score = max(matcher.match(entry.title) * 1.5, matcher.match(f"{entry.detail}/{entry.title}"))
        score += score * 0.2 * (entry.target in age)
        scored.append((-score, age.get(entry.target, len(age)), position, entry))
    return [entry for *_, entry in sorted(scored, key=lambda item: item[:3])[:SHOWN]]
