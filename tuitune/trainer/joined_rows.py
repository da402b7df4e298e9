"""`training.padding_free`, absent or `auto`: the rows of a micro-batch are joined without padding, nothing else changes.

TRL cuts rows to `max_length` only while its own `padding_free` is off; so it prepares them as ever, and its collator is told afterwards.
"""

from typing import TYPE_CHECKING, Any

from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tuitune.trainer.box import FillIn, leaves_padding, why_not_joined

if TYPE_CHECKING:
    from tuitune.trainer.build import Built

KEY = "padding_free"


def join_rows(built: "Built") -> None:
    """Join the rows of the trainer's micro-batches from now on, where the recipe leaves it to tuitune; the ledger says which and why."""
    if not _leaves(built):
        return
    trainer = built.trainer
    why = _why_not(built, trainer.model)
    if not why and not isinstance(trainer.data_collator, DataCollatorForLanguageModeling):
        why = f"{type(trainer.data_collator).__name__} pads"
    if not why:
        trainer.padding_free = trainer.args.padding_free = trainer.data_collator.padding_free = True
        why = "the rows of a micro-batch are joined: no padding is computed, each attends to itself"
    elif KEY not in built.recipe.training:
        return  # nobody asked
    built.filled["training", KEY] = FillIn(bool(trainer.args.padding_free), why)


def _leaves(built: "Built") -> bool:
    return leaves_padding(built.recipe.training, built.recipe.model)


def _why_not(built: "Built", model: Any) -> str:
    return why_not_joined(built.recipe.task, built.recipe.training, model.config.to_dict(), built.box)
