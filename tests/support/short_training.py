"""A few real steps of training on the CPU, in this process: the proof that a fault costs a run and that its repair mends it."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.support.runs import new_run
from tuitune.recipe.recipe import load_recipe
from tuitune.trainer.build import build


@dataclass
class Steps:
    """`trainer` after training; its log of each step."""

    trainer: Any

    def each(self, name: str) -> list[float]:
        """A logged value, step by step."""
        return [record[name] for record in self.trainer.state.log_history if "loss" in record]


def train_steps(recipe: Path, steps: int = 2) -> Steps:
    """Build the recipe's trainer as a run does and let it make at most `steps` steps (0: as many as the recipe says)."""
    torch.set_num_threads(1)  # a tiny model's threads only wait for each other
    run = new_run_beside(recipe)
    loaded = load_recipe(run.recipe, base=recipe.parent)
    loaded.launch["gpus"] = "cpu"  # a fault that a GPU asserts on would end every later use of it in this process
    trainer = build(loaded, run).trainer
    trainer.args.logging_steps, trainer.args.save_strategy = 1, "no"
    if steps:
        trainer.args.max_steps = steps
    trainer.train()
    return Steps(trainer)


def new_run_beside(recipe: Path) -> Any:
    """A run directory for the recipe as it is now, which stays as it is."""
    text = recipe.read_text(encoding="utf-8")
    folder = recipe.parent / "work"
    with suppress(FileExistsError):
        folder.mkdir()
    return new_run(folder, text)
