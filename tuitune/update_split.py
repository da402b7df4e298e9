"""`launch.rows_per_update`: the recipe says how many rows an optimizer step learns from, tuitune how they are taken apart.

Rows a micro-batch, accumulation and recomputation follow from the memory plan and the card; what is learnt does not depend on them, because
TRL divides the loss by the tokens of the whole update. Imports no torch: `tuitune plan`, preflight and the trainer choose the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tuitune.errors import UserError
from tuitune.memory.calibration import box_of, read_calibration
from tuitune.memory.fastest import EVERY, Split, fastest_of_each_batch, fitting
from tuitune.memory.settings import device
from tuitune.preflight.cards import Card
from tuitune.recipe.aliases import canonical_name
from tuitune.recipe.devices import wants_cpu
from tuitune.recipe.ledger import read_ledger
from tuitune.recipe.recipe import Recipe
from tuitune.recipe.strategy import processes_of
from tuitune.recipe.update_rows import ACCUMULATION, BATCH, KEY
from tuitune.text import printable
from tuitune.trainer.box import FillIn

if TYPE_CHECKING:
    from tuitune.planning import Planned

AGAIN, AGAIN_KWARGS = "activation_checkpointing", "activation_checkpointing_kwargs"
GIB = 1 << 30


def rows_of_each(recipe: Recipe) -> int | None:
    """Rows an update of each process; None where the recipe, a retry or a change of the running batch says micro-batches itself."""
    rows = recipe.launch.get(KEY)
    if rows is None or BATCH in recipe.training or ACCUMULATION in recipe.training:
        return None
    return int(rows) // processes_of(recipe.launch)


def settle(recipe: Recipe, card: Card | None, planned: Callable[[Recipe], "Planned"]) -> tuple[Recipe, dict[str, FillIn]]:
    """The recipe with the split written into `training:`, and the reasons by key (newest names); as it is, and {}, where it says it itself.

    `planned`, and the errors: as of `splits`.
    """
    found = splits(recipe, card, planned)
    return (with_values(recipe, found[0]), found[0]) if found else (recipe, {})


def splits(recipe: Recipe, card: Card | None, planned: Callable[[Recipe], "Planned"]) -> list[dict[str, FillIn]]:
    """What may be written into `training:`, by key (newest names) with its reason: first what is taken unless another is measured to be
    faster, then those others, the likeliest first; [] where the recipe says micro-batches itself.

    `planned`: makes the plan of a recipe for that card. On the CPU, and where the card's memory is not known, an update is one micro-batch,
    and the others are smaller ones that nobody has planned. UserError where nothing fits, or there is no plan.
    """
    rows = rows_of_each(recipe)
    if rows is None:
        return []
    if card is None or not is_planned(recipe, card):
        return _unplanned(recipe, rows)
    return [_reasons(recipe, split, card) for split in _fitting(recipe, card, rows, planned)]


def is_planned(recipe: Recipe, card: Card) -> bool:
    """Whether there is a card whose memory the recipe's plan is about."""
    return card.gpu and card.memory is not None and not wants_cpu(recipe.launch, recipe.training)


def _unplanned(recipe: Recipe, rows: int) -> list[dict[str, FillIn]]:
    found = []
    for batch in range(rows, 0, -1):
        if rows % batch:
            continue
        each = f"in micro-batches of {batch}" if batch < rows else "at once"
        why = f"launch.{KEY}, {each}" + (": there is no card whose memory it must fit" if batch == rows else "")
        chosen = {BATCH: FillIn(batch, why), ACCUMULATION: FillIn(rows // batch, f"launch.{KEY}, {each}")}
        if _leaves_recomputation(recipe):
            chosen[AGAIN] = FillIn(
                False, "computing the forward pass again would cost a quarter of the time, and there is no card whose memory it saves"
            )
        found.append(chosen)
    return found


def with_values(recipe: Recipe, chosen: Mapping[str, FillIn]) -> Recipe:
    """The recipe with these values in `training:`."""
    kept = {name: value for name, value in recipe.training.items() if canonical_name(name) not in chosen}
    return replace(recipe, training={**kept, **{name: fill.value for name, fill in chosen.items()}})


def as_before(effective: Path) -> dict[str, FillIn]:
    """What an earlier attempt of the run had chosen, by its ledger; {} where there is none. A resumed run keeps its micro-batches."""
    if not effective.exists():
        return {}
    ours = (BATCH, ACCUMULATION, AGAIN, AGAIN_KWARGS)
    found = [entry for entry in read_ledger(effective) if entry.section == "training" and canonical_name(entry.key) in ours]
    return {canonical_name(entry.key): FillIn(entry.value, entry.why or "") for entry in found if entry.source == "adjusted"}


def _leaves_recomputation(recipe: Recipe) -> bool:
    written = {canonical_name(name): value for name, value in recipe.training.items()}
    return written.get(AGAIN, "auto") == "auto" and AGAIN_KWARGS not in written


def _fitting(recipe: Recipe, card: Card, rows: int, planned: Callable[[Recipe], "Planned"]) -> list[Split]:
    whole = with_values(recipe, {BATCH: FillIn(rows, ""), ACCUMULATION: FillIn(1, "")})
    place = f"{printable(str(recipe.file))}:{recipe.line('launch', KEY)}"
    try:
        made = planned(whole)
    except UserError as error:
        raise UserError(
            f"{place}: launch.{KEY} needs a memory plan ({error}); or write training.{BATCH} and {ACCUMULATION} yourself"
        ) from error
    every: tuple[int, ...] = EVERY if _leaves_recomputation(recipe) else (made.settings.checkpoint_every,)
    if recipe.task == "dpo":
        every = tuple(again for again in every if again <= 1)  # DPOTrainer cannot recompute every n-th layer
    stack = device(card.capability, read_calibration(box_of(card.name, card.driver)))
    memory = card.memory or 0
    found = fitting(made.shape, made.settings, stack, memory, card.name, rows, every, made.mean)
    if not found:
        raise UserError(
            f"{place}: not even one row at a time fits {card.name} ({memory / GIB:.1f} GiB): `tuitune plan` says what to change"
        )
    return fastest_of_each_batch(found)


def _reasons(recipe: Recipe, split: Split, card: Card) -> dict[str, FillIn]:
    taken, memory = split.settings, card.memory or 0
    room = f"{split.plan.needed / GIB:.1f} of {memory / GIB:.1f} GiB"
    chosen = {
        BATCH: FillIn(taken.batch, f"the fastest split of launch.{KEY} that fits: {room}"),
        ACCUMULATION: FillIn(taken.accumulation, f"launch.{KEY} in micro-batches of {taken.batch}"),
    }
    if _leaves_recomputation(recipe):
        saves = (
            "computing it again would save memory that is not needed"
            if not taken.checkpoint_every
            else f"with less it would not fit or be slower ({room})"
        )
        chosen[AGAIN] = FillIn(bool(taken.checkpoint_every), f"the forward pass: {saves}")
        if taken.checkpoint_every > 1:
            kwargs = {"use_reentrant": False, "every_n_layers": taken.checkpoint_every}
            chosen[AGAIN_KWARGS] = FillIn(kwargs, f"every {taken.checkpoint_every}th layer is computed again: {saves}")
    return chosen
