"""Checks that need to know how many steps the run has, which the rows say that are left after cutting and packing."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from tuitune.preflight.box_context import BoxContext
from tuitune.preflight.context import DocumentContext
from tuitune.preflight.finding import Change, Fix, Found
from tuitune.preflight.registry import Stage, check
from tuitune.runs.listing import list_runs
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext

FEW = 20  # steps below which a run has hardly begun to learn
COUNTS = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps")
LONG = 200  # steps that somebody would not like to lose
NO_WARMUP = ("constant", "reduce_lr_on_plateau", "greedy")  # schedules that leave warmup_steps aside


@dataclass(frozen=True)
class Steps:
    """`sequences` that are trained on in an epoch, `batch` of them at once on the device; `total` optimiser steps, `per_epoch` of them."""

    sequences: int
    batch: int
    per_epoch: int
    total: int


def steps_of(context: "CheckContext") -> Steps:
    """The trainer's own arithmetic (transformers.Trainer.set_initial_training_values), for one device."""
    looked, rows = len(context.proven.numbers), len(context.proven.built.train.rows)
    sequences = round(len(context.trained.dataset) * rows / max(looked, 1))
    batch, accumulation = int(context.setting("per_device_train_batch_size")), int(context.setting("gradient_accumulation_steps"))
    batches = sequences // batch if context.setting("dataloader_drop_last") else ceil(sequences / batch)
    per_epoch = max(ceil(batches / accumulation), 1) if batches else 0
    limit = int(context.setting("max_steps") or -1)
    total = ceil(float(context.setting("num_train_epochs")) * per_epoch) if limit < 1 else limit if sequences else 0
    return Steps(sequences, batch, per_epoch, total)


@check("TRN01", "error", "no or very few steps", Stage.RECIPE, Stage.ROWS)
def few_steps(context: "DocumentContext | CheckContext") -> Iterator[Found]:
    """The numbers make a run without a step, or with so few that it has hardly begun: SFTConfig takes a batch size of 0 without a word.

    Rule: steps = ceil(ceil(rows / batch) / accumulation) × epochs, with the rows that are left after dropping and packing. 0 is an error,
    below 20 a warning (an info where max_steps asks for it).
    Do: more epochs, a smaller batch or less accumulation, more rows.
    Known from: transformers.Trainer ("num_samples should be a positive integer").
    """
    if isinstance(context, DocumentContext):
        yield from context.told(("RCP017",), *(("training", key) for key in COUNTS))
        return
    steps = steps_of(context)
    limited = int(context.training.get("max_steps") or -1) > 0
    if steps.total >= FEW:
        return
    accumulation = context.setting("gradient_accumulation_steps")
    sizes = f"{steps.sequences} sequences, batch {steps.batch} × {accumulation}, epochs {context.setting('num_train_epochs'):g}"
    evidence = {"steps": steps.total, "sequences": steps.sequences, "batch": steps.batch, "accumulation": accumulation}
    if not steps.total:
        yield Found(
            f"nothing is left to train on ({sizes}): the run has no step. Look at max_length and the rows", context.at("training"), evidence
        )
        return
    yield Found(
        f"the run has {steps.total} {'step' if steps.total == 1 else 'steps'} ({sizes}): hardly enough to learn anything. Take more "
        "epochs, a smaller batch or more rows",
        context.at("training", "max_steps" if limited else "num_train_epochs"),
        evidence,
        severity="info" if limited else "warning",
    )


@check("TRN02", "warning", "a warm-up that never ends", Stage.ROWS)
def warmup(context: "CheckContext") -> Iterator[Found]:
    """warmup_steps of 1 and more is a number of steps (1.5 is 1), below 1 a share of all. A warm-up over half of the run or more means that
    the learning rate is reached late or never.

    Do: 0.03 to 0.1.
    Known from: transformers.TrainingArguments.get_warmup_steps; warmup_ratio no longer exists.
    """
    written = context.setting("warmup_steps") or 0
    total = steps_of(context).total
    if not written or not total or context.setting("lr_scheduler_type") in NO_WARMUP:
        return
    taken = int(written) if written >= 1 else ceil(total * written)
    fix = Fix("Write `warmup_steps: 0.1` (a tenth of the steps)", automatic=True, changes=(Change(("training", "warmup_steps"), 0.1),))
    evidence = {"warmup_steps": written, "taken": taken, "steps": total}
    where = context.at("training", "warmup_steps")
    if 1 < written < 2:
        yield Found(
            f"warmup_steps {written:g} is a number of steps and means 1; a share is below 1. Write 0.1 for a tenth", where, evidence, fix
        )
    elif taken * 2 >= total and (written >= 1 or written >= 0.5):
        yield Found(
            f"the warm-up takes {taken} of {total} steps, so the learning rate is reached {'late' if taken < total else 'never'}. Write a "
            "share of the steps, e.g. 0.1",
            where,
            evidence,
            fix,
        )


@check("TRN10", "info", "micro-batches of unequal weight", Stage.ROWS)
def accumulation(context: "CheckContext") -> Iterator[Found]:
    """Gradient accumulation averages micro-batches. TRL's SFT loss counts tokens over the whole update, so nothing is lost there; losses
    on pairs (dpo, kto, reward) are means of each micro-batch, and a last one with fewer rows counts as much as a full one.

    Do: nothing, or dataloader_drop_last: true.
    Known from: transformers#34191, #35203, #37766.
    """
    steps, each = steps_of(context), int(context.setting("gradient_accumulation_steps"))
    last = steps.sequences % steps.batch
    if context.recipe.task == "sft" or each < 2 or not last or context.setting("dataloader_drop_last"):
        return
    yield Found(
        f"the last micro-batch of an epoch has {last} instead of {steps.batch} rows and counts as much: its rows weigh "
        f"{steps.batch / last:.2g} times as much as others; dataloader_drop_last: true leaves it out",
        context.at("training", "gradient_accumulation_steps"),
        {"rows": steps.sequences, "batch": steps.batch, "last": last, "accumulation": each},
    )


@check("TRN15", "warning", "checkpoints that cannot help", Stage.ROWS, Stage.BOX)
def checkpoints(context: "CheckContext | BoxContext") -> Iterator[Found]:
    """No checkpoint is written before the end, or what is written cannot be gone on from: a crash costs the whole run.

    Rule: save_steps beyond the last step; save_only_model, which leaves optimiser and scheduler out; an earlier run of this name that
    stopped with checkpoints is told, as a new one begins anew.
    Do: save_steps of a tenth of the run; save_only_model: false.
    Known from: transformers.Trainer (_load_optimizer_and_scheduler, rotate_checkpoints).
    """
    if isinstance(context, BoxContext):
        yield from _stopped(context)
        return
    total = steps_of(context).total
    strategy, every = context.setting("save_strategy"), context.setting("save_steps")
    if strategy == "steps" and every > total and ("save_steps" in context.training or total >= LONG):
        better = max(1, total // 10)
        yield Found(
            f"save_steps {every:g} lies beyond the run's {total} steps: nothing is saved before the end. Write save_steps: {better}",
            context.at("training", "save_steps"),
            {"save_steps": every, "steps": total},
            Fix(f"Write `save_steps: {better}`", changes=_save_every(context.training, better)),
            None if "save_steps" in context.training else "info",
        )
    if context.setting("save_only_model") and strategy != "no":
        yield Found(
            "save_only_model leaves optimiser and schedule out of the checkpoints: a run that stops cannot go on from one. Write false",
            context.at("training", "save_only_model"),
            {"save_only_model": True},
            Fix("Write `save_only_model: false`", changes=(Change(("training", "save_only_model"), False),)),
        )
    if context.setting("load_best_model_at_end") and context.setting("save_total_limit") == 1:
        yield Found(
            "save_total_limit 1 with load_best_model_at_end keeps two checkpoints, the best and the last: plan the disk for both",
            context.at("training", "save_total_limit"),
            {"save_total_limit": 1},
            severity="info",
        )


def _save_every(training: dict[str, Any], steps: int) -> tuple[Change, ...]:
    """With load_best_model_at_end an evaluation belongs to each checkpoint."""
    changes = [Change(("training", "save_steps"), steps)]
    if training.get("load_best_model_at_end") and training.get("eval_strategy") == "steps":
        changes.append(Change(("training", "eval_steps"), steps))
    return tuple(changes)


def _stopped(context: BoxContext) -> Iterator[Found]:
    if context.asked is None:
        return
    recipe = context.asked.recipe
    for run in list_runs(context.runs):
        made = sorted((run.path / "checkpoints").glob("checkpoint-*")) if run.state in ("failed", "stopped", "lost") else []
        if made and run.recipe_path and run.recipe_path == str(recipe.file.resolve()):
            yield Found(
                f"run {printable(run.id)} of this recipe {run.state} at step {run.step or 0} and left {len(made)} checkpoints; "
                "a new run begins at step 0",
                context.at("output", "runs"),
                {"run": str(run.path), "state": run.state, "step": run.step, "checkpoints": [path.name for path in made][-5:]},
                severity="info",
            )
            return
