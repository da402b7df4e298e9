"""`training.padding_free: auto`: the rows of a micro-batch are joined into one without padding, and nothing else about them changes.

TRL cuts rows to `max_length` only while its own `padding_free` is off; so it prepares them as ever, and its collator is told afterwards.
"""

from typing import TYPE_CHECKING, Any

from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tuitune.trainer.box import FillIn, why_not_joined

if TYPE_CHECKING:
    from tuitune.trainer.build import Built

KEY = "padding_free"


def takes_joined_rows(built: "Built", model: Any) -> bool:
    """Whether the recipe leaves it to tuitune and this model's rows can be joined."""
    recipe = built.recipe
    return recipe.training.get(KEY) == "auto" and not why_not_joined(recipe.task, recipe.training, model.config.to_dict(), built.box)


def join_rows(built: "Built") -> None:
    """Join the rows of the trainer's micro-batches from now on, where the recipe leaves it to tuitune; the ledger says which and why."""
    if built.recipe.training.get(KEY) != "auto":
        return
    trainer = built.trainer
    why = why_not_joined(built.recipe.task, built.recipe.training, trainer.model.config.to_dict(), built.box)
    if not why and not isinstance(trainer.data_collator, DataCollatorForLanguageModeling):
        why = f"{type(trainer.data_collator).__name__} pads"
    if why:
        built.filled["training", KEY] = FillIn(False, why)
        return
    trainer.padding_free = trainer.args.padding_free = trainer.data_collator.padding_free = True
    built.filled["training", KEY] = FillIn(True, "the rows of a micro-batch are joined: no padding is computed, each attends to itself")
