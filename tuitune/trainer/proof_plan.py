"""The plan for the batches of a proof: of the recipe as it is, with the lengths that were found. Imports no torch."""

from dataclasses import dataclass, field, replace

from tuitune.errors import UserError
from tuitune.memory.calibration import Calibration, box_of, read_calibration
from tuitune.memory.expected import Batch, Expected, expect, measured_settings, remedies
from tuitune.memory.settings import Device, Settings, device
from tuitune.memory.shape import Shape
from tuitune.planning import plan_recipe, read_settings
from tuitune.preflight.cards import Card
from tuitune.recipe.recipe import Recipe
from tuitune.recipe.schema import load_schema


@dataclass(frozen=True)
class Plan:
    """`expected` and what it was made of; all None when there is no plan, and `why` says why."""

    expected: Expected | None = None
    shape: Shape | None = None
    settings: Settings | None = None
    device: Device = field(default_factory=Device)
    calibration: Calibration | None = None
    why: str = ""

    def remedies(self, memory: int, phase: str, train: Batch, evaluation: Batch | None) -> list[str]:
        """What to change after `phase` ran out of `memory` bytes; [] without a plan."""
        if self.shape is None or self.settings is None:
            return []
        return remedies(self.shape, measured_settings(self.settings, train), self.device, memory, phase, evaluation)


def plan_batches(recipe: Recipe, card: Card, train: Batch, evaluation: Batch | None) -> Plan:
    """The plan of a recipe for these two batches on this card."""
    # a recipe without max_length has one all the same: its longest row's
    recipe = replace(recipe, training={**recipe.training, "max_length": train.length})
    measured = read_calibration(box_of(card.name, card.driver))
    stack = device(card.capability, measured)
    try:
        schema = load_schema()
        shape, settings = plan_recipe(recipe, schema, card).shape, read_settings(recipe, schema, card)
        return Plan(expect(shape, settings, stack, train, evaluation), shape, settings, stack, measured)
    except UserError as error:
        return Plan(why=str(error))
