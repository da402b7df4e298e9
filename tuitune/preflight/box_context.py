"""What checks of this computer look at. Without a recipe (`tuitune doctor`) the box is judged for any run."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tuitune.preflight.box import Box
from tuitune.preflight.cards import Card
from tuitune.preflight.context import Context
from tuitune.preflight.finding import NotHere, Where
from tuitune.preflight.needs import GpuNeed, gpu_need
from tuitune.recipe.devices import wants_cpu


@dataclass
class BoxContext:
    """`asked`: the recipe's context, None for doctor; `workspace`: where its runs would go. With a card that the user named
    (`card.named`) nothing is said about this box's own GPU."""

    box: Box
    card: Card
    workspace: Path
    asked: Context | None = None
    training: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.asked is not None:
            self.training = self.asked.training

    def at(self, *path: str | int) -> Where:
        """The place of a recipe's key; nowhere for doctor."""
        return self.asked.at(*path) if self.asked else Where()

    def gpu_wanted(self) -> None:
        """NotHere when this box's GPUs are no question: another card is meant, or the recipe keeps off them."""
        if self.card.named:
            raise NotHere("another card is meant than this box's")
        if self.asked and wants_cpu(self.asked.recipe.launch, self.asked.recipe.training):
            raise NotHere("the recipe trains on the CPU")

    @cached_property
    def need(self) -> GpuNeed | None:
        """What the recipe's run needs of its card; None for doctor, and when nobody can say."""
        return gpu_need(self.asked) if self.asked else None

    @property
    def runs(self) -> Path:
        """Where the run directories go."""
        named = self.asked.recipe.output.get("runs") if self.asked else None
        return self.workspace / str(named or "runs")
