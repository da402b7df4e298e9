"""What changed in a recipe since the last run of it was started."""

import asyncio
from pathlib import Path
from typing import Any

from textual.app import App

from tuitune.errors import UserError
from tuitune.runs.directory import runs_folder
from tuitune.runs.listing import RunSummary, list_runs
from tuitune.text import printable
from tuitune.workbench.actions import Actions
from tuitune.workbench.views.recipe.compare import Comparison


def last_run(recipe: Path, runs_root: Path) -> RunSummary | None:
    """The newest run of this recipe among the workspace's."""
    wanted = recipe.resolve()
    return next((run for run in list_runs(runs_root) if run.recipe_path and Path(run.recipe_path).resolve() == wanted), None)


def trained_text(recipe: Path, runs_root: Path) -> tuple[str, str]:
    """(the run's id, the recipe it was started with); UserError when there is none. Reads the disk: call it in a thread."""
    run = last_run(recipe, runs_root)
    if run is None:
        raise UserError(f"{printable(recipe.name)} has not been trained in this folder yet: there is no run to compare with")
    try:
        return run.id, (run.path / "recipe.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the recipe of {printable(run.id)} cannot be read: {error}") from error


async def show_difference(app: App[Any], recipe: Path, text: str) -> None:
    """Show `text` beside the recipe of its last run, or say why that is not possible. Only from a worker."""
    runs_root = app.runs_root if isinstance(app, Actions) else runs_folder(recipe.parent)
    try:
        run, trained = await asyncio.to_thread(trained_text, recipe, runs_root)
    except UserError as error:
        app.notify(str(error))
        return
    await app.push_screen_wait(Comparison(run, trained, "on screen", text))
