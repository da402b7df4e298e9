"""What changed in a recipe since the last run of it was started."""

import asyncio
from pathlib import Path
from typing import Any

from textual.app import App

from tuitune.errors import UserError
from tuitune.recipe.document import parse
from tuitune.runs.listing import RunSummary, list_runs
from tuitune.text import printable
from tuitune.workbench.views.recipe.compare import Comparison


def last_run(recipe: Path, runs: str = "runs") -> RunSummary | None:
    """The newest run of this recipe in the folder `runs` (absolute, or beside the recipe or above it)."""
    wanted = recipe.resolve()
    for folder in dict.fromkeys((recipe.parent / runs, recipe.parent.parent / runs)):
        for run in list_runs(folder):
            if run.recipe_path and Path(run.recipe_path).resolve() == wanted:
                return run
    return None


def trained_text(recipe: Path, text: str) -> tuple[str, str]:
    """(the run's id, the recipe it was started with); UserError when there is none. `text` (as it is now) says where runs are.

    Reads the disk: call it in a thread.
    """
    output = parse(text).data.get("output")
    runs = output.get("runs") if isinstance(output, dict) else None
    run = last_run(recipe, runs if isinstance(runs, str) else "runs")
    if run is None:
        raise UserError(f"{printable(recipe.name)} has not been trained in this folder yet: there is no run to compare with")
    try:
        return run.id, (run.path / "recipe.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the recipe of {printable(run.id)} cannot be read: {error}") from error


async def show_difference(app: App[Any], recipe: Path, text: str) -> None:
    """Show `text` beside the recipe of its last run, or say why that is not possible. Only from a worker."""
    try:
        run, trained = await asyncio.to_thread(trained_text, recipe, text)
    except UserError as error:
        app.notify(str(error))
        return
    await app.push_screen_wait(Comparison(run, trained, "on screen", text))
