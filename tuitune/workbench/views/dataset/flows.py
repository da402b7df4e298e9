"""What the dataset view does with questions in between: mapping columns into a recipe, choosing the file to compare with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuitune.errors import UserError
from tuitune.recipe.tasks import PROMPTED
from tuitune.text import printable
from tuitune.workbench import quick_open
from tuitune.workbench.parts.picker import Box
from tuitune.workbench.quick_open import Entry
from tuitune.workbench.views.dataset.mapping_box import SAMPLES, MappingBox
from tuitune.workbench.views.dataset.recipes import Naming, files_beside, namings, with_columns
from tuitune.workbench.views.recipe import disk

if TYPE_CHECKING:
    from tuitune.workbench.app import Workbench
    from tuitune.workbench.views.dataset.scanning import Scanning
    from tuitune.workbench.views.dataset_view import DatasetView


LEARNT = frozenset({"completion", "chosen", "text", "messages"})  # what a row holds besides a prompt


class Chooser(Box):
    """One of a few entries, by name; returns its title's index as text."""

    DEFAULT_CSS = "Chooser { align: center top; }"

    def __init__(self, placeholder: str, entries: Sequence[Entry]) -> None:
        self.placeholder = placeholder
        super().__init__()
        self._all = list(entries)

    def found(self, text: str) -> list[Entry]:
        return quick_open.rank(self._all, text)

    def choose(self, entry: Entry) -> None:
        self.dismiss(str(self._all.index(entry)))


def recipes_of(app: Workbench) -> Sequence[Path]:
    """The recipes of the folder; called in a thread, because the folder may not have been looked at yet."""
    from tuitune.workbench.workspace import scan

    return app.seen.workspace.recipes if app.seen else scan(app.root, app.runs_root).recipes


async def map_columns(view: DatasetView, app: Workbench) -> None:
    """Choose the columns with a look at what comes out, then write them into the recipe that names the file."""
    found = await app.in_thread(lambda: namings(view.path, recipes_of(app)), failed="Recipes not read")
    if found is None:
        return
    naming = await _which(app, found)
    if found and naming is None:
        return
    shown = view.shown_row

    def preview(mapping: dict[str, str]) -> list[Mapping[str, Any]]:
        answers: list[dict[str, Any]] = [
            {"row": row, **view.asking.ask("row", row=row, columns=mapping, room=20_000)} for row in _samples(shown, view.count)
        ]
        return [unless_learnt(answer, naming.task) if naming else answer for answer in answers]

    mapping = naming.columns if naming and naming.columns else view.mapping
    chosen = await app.push_screen_wait(MappingBox(view.names, mapping, naming.words if naming else "", preview))
    if chosen is None:
        return
    if naming is None:
        view.say(
            f"no recipe of this folder names {printable(view.path.name)}: write `path: {_relative(view.path, app.root)}` into one first"
        )
        view.use_mapping(chosen, "not written anywhere")
    elif await app.in_thread(lambda: write(app, naming, chosen), failed="Not written"):
        view.use_mapping(chosen, naming.words)
        view.say(f"written into {naming.words}")


def unless_learnt(answer: dict[str, Any], task: str) -> dict[str, Any]:
    """A row that has come out, as a misfit when it is a prompt alone and the task does not answer that itself."""
    if task in PROMPTED or not answer.get("made") or answer["made"].keys() & LEARNT:
        return answer
    rest = {name: value for name, value in answer.items() if name != "made"}
    return {**rest, "misfit": f"assistant is nothing: {task} learns from answers, and this row would be a prompt alone"}


def _samples(row: int, count: int) -> list[int]:
    first = max(0, min(row, count - SAMPLES))
    return list(range(first, min(count, first + SAMPLES)))


async def _which(app: Workbench, found: Sequence[Naming]) -> Naming | None:
    if len(found) < 2:
        return found[0] if found else None
    entries = [Entry("naming", naming.words, "", "", naming.recipe, "≡") for naming in found]
    answer = await app.push_screen_wait(Chooser("Which source of which recipe", entries))
    return None if answer is None else found[int(answer)]


def write(app: Workbench, naming: Naming, columns: Mapping[str, str]) -> bool:
    """Write a mapping into a recipe on disk. UserError when that recipe has changes that are not saved, or cannot be written."""
    editor = app.editor.views.get(f"recipe:{naming.recipe}")
    name = printable(naming.recipe.name)
    if editor is not None and editor.dirty:
        raise UserError(f"{name} has changes that are not saved: save it (Ctrl+S) or discard them, then map the columns")
    file = disk.read(naming.recipe)
    if file.read_only:
        raise UserError(f"{name} is {file.read_only}")
    disk.write(file, with_columns(file.text, naming.place, columns))
    return True


def _relative(path: Path, root: Path) -> str:
    return printable(str(path.relative_to(root)) if path.is_relative_to(root) else str(path))


async def choose_other(view: Scanning, app: Workbench) -> Path | None:
    """The file to compare with: those that a recipe names beside this one first."""

    def look() -> list[Path]:
        beside = files_beside(view.path, recipes_of(app))
        data = app.seen.workspace.data if app.seen else ()
        return list(dict.fromkeys([*beside, *(path for path in data if path != view.path)]))

    found = await asyncio.to_thread(look)
    if not found:
        view.say("there is no other data file in this folder to compare with")
        return None
    entries = [Entry("data", printable(path.name), _relative(path.parent, app.root), "", path, "▤") for path in found]
    answer = await app.push_screen_wait(Chooser("Compare with which file", entries))
    return None if answer is None else found[int(answer)]
