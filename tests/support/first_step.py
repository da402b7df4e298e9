"""A real training step of a recipe, in this process: what a repair has to make possible."""

from pathlib import Path
from typing import Any

from tuitune.recipe.recipe import load_recipe
from tuitune.runs.directory import create_run
from tuitune.trainer.build import Built, build


def built(recipe: Path) -> Built:
    """The real trainer of a recipe; UserError where it refuses."""
    run = create_run(recipe.parent / "runs", "test", recipe.read_text(encoding="utf-8"))
    loaded = load_recipe(recipe)
    loaded.training |= {"max_steps": 1, "save_strategy": "no", "report_to": "none", "use_cpu": True, "bf16": False}
    return build(loaded, run)


def first_step(recipe: Path) -> dict[str, Any]:
    """What the trainer says after one step."""
    return dict(built(recipe).trainer.train().metrics)
