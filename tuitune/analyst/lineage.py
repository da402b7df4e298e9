"""The runs that a model comes from, and what they were evaluated on: rows that no later run may train on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tuitune.analyst.raw_rows import RawSplit, raw_split
from tuitune.errors import UserError
from tuitune.recipe.recipe import Recipe, load_recipe
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest


@dataclass
class Ancestor:
    """A run that this one starts from. `fault`: why its evaluation rows cannot be read, "" when they were."""

    run: RunDirectory
    evaluation: RawSplit
    fault: str = ""


def ancestors(recipe: Recipe) -> Iterator[Ancestor]:
    """The runs behind a recipe's adapter or model, the latest first."""
    seen: set[Path] = set()
    waiting = [recipe]
    while waiting:
        current = waiting.pop(0)
        for name in (current.model.get("adapter"), current.model.get("name_or_path")):
            run = run_around(Path(str(name))) if name else None
            if run is None or run.path.resolve() in seen:
                continue
            seen.add(run.path.resolve())
            try:
                before = load_recipe(run.recipe, base=_base(run))
                waiting.append(before)
                yield Ancestor(run, raw_split(before, "eval"))
            except UserError as error:
                yield Ancestor(run, RawSplit("eval", []), str(error))


def run_around(place: Path) -> RunDirectory | None:
    """The run whose adapter, checkpoint or model lies at `place`."""
    if not place.is_absolute():
        return None
    for folder in (place, *list(place.parents)[:3]):
        run = RunDirectory(folder)
        if run.recipe.is_file() and (run.manifest.is_file() or run.journal.is_dir() or folder.parent.name == "runs"):
            return run
    return None


def _base(run: RunDirectory) -> Path:
    """The folder from which the paths of a run's recipe start: that of the recipe it was started with."""
    try:
        written = read_manifest(run).recipe_path
    except UserError:
        written = ""
    return Path(written).parent if written else run.path.parent.parent
