"""A real training of a few steps in this process, with orders that arrive at the boundaries they are planned for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.support.runs import new_run
from tuitune.bus.journal import Journal, JournalTail
from tuitune.runs.directory import RunDirectory
from tuitune.trainer.stop import StopRequest


class PlannedLink:
    """A trainer's link. `planned`: step → orders that arrive at its boundary, one entry a look; 3.1 and 3.2 come after 3, while it is
    paused there."""

    def __init__(self, planned: dict[float, list[dict[str, Any]]]) -> None:
        self.planned, self.trainer, self.replies = dict(planned), None, []

    def take(self) -> list[dict[str, Any]]:
        due = min((step for step in self.planned if step < self.trainer.state.global_step + 1), default=None)
        return [] if due is None else self.planned.pop(due)

    def reply(self, id: str, ok: bool, error: str | None = None, **fields: Any) -> None:
        self.replies.append({"id": id, "ok": ok, "error": error, **fields})


@dataclass
class Steered:
    """What a training has left."""

    run: RunDirectory
    trainer: Any
    records: list[dict[str, Any]]
    link: PlannedLink
    stop: StopRequest

    def each(self, name: str) -> list[float]:
        """A metric, step by step."""
        return [record[name] for record in self.records if record["ev"] == "metrics"]

    def told(self, event: str) -> list[dict[str, Any]]:
        """The records of one kind."""
        return [record for record in self.records if record["ev"] == event]

    def checkpoint(self, step: int) -> Path:
        return self.run.checkpoints / f"checkpoint-{step}"


def order(op: str, **arguments: Any) -> dict[str, Any]:
    """A command of Ada's; its id is its op."""
    return {"id": op, "op": op, "args": arguments, "by": "ada"}


def steer(
    folder: Path,
    recipe: str,
    planned: dict[float, list[dict[str, Any]]] | None = None,
    *,
    resume: Path | None = None,
    reshaped: bool = False,
    touch: Callable[[Any], None] = lambda trainer: None,
) -> Steered:
    """Build the recipe's trainer as a run does and train it under control; from `resume`, a checkpoint, as a next attempt does
    (`reshaped`: with the recipe's own batch whatever it had). `touch` gets the trainer before."""
    from tuitune.recipe.recipe import load_recipe
    from tuitune.trainer.build import build
    from tuitune.trainer.kept import Shape
    from tuitune.trainer.orders import Orders
    from tuitune.trainer.telemetry import Telemetry, TelemetryCallback
    from tuitune.trainer.watch import Watch

    torch.set_num_threads(1)  # a tiny model's threads only wait for each other
    run = new_run(folder, recipe)
    built = build(load_recipe(run.recipe, base=folder), run)
    trainer = built.trainer
    link, stop, journal = PlannedLink(planned or {}), StopRequest(), Journal(run.journal / "trainer-1.jsonl")
    link.trainer, telemetry = trainer, Telemetry(journal, link)
    trainer.steer(telemetry, stop, Orders(link))
    trainer.add_callback(TelemetryCallback(telemetry, lambda: trainer.kept.progress.tokens))
    trainer.watch = Watch(built, run, telemetry)
    trainer.add_callback(trainer.watch)
    touch(trainer)
    if resume is None:
        trainer.train()
    else:
        trainer.take_up(resume, Shape.of(trainer.args) if reshaped else None)
        trainer.train(resume_from_checkpoint=str(resume))
    journal.close()
    return Steered(run, trainer, JournalTail(run.journal).poll(), link, stop)
