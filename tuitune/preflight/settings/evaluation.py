"""Checks of when the run evaluates and which checkpoint it keeps."""

from collections.abc import Iterator
from typing import Any

from tuitune.preflight.context import DocumentContext, default_of
from tuitune.preflight.finding import Change, Fix, Found
from tuitune.preflight.registry import Stage, check

NO = ("no", False)  # a bare `no` in YAML 1.1


@check("TRN05", "error", "evaluation and checkpoints that do not go together", Stage.RECIPE)
def evaluation(context: DocumentContext) -> Iterator[Found]:
    """Evaluation without data, or load_best_model_at_end where nothing says which checkpoint is best: the trainer is refused after the
    model was loaded.

    Rule: eval_strategy needs dataset.eval; load_best_model_at_end needs eval_strategy and save_strategy alike, and save_steps a multiple
    of eval_steps (save_strategy: best excepted). Data that nothing evaluates on is told as well.
    Do: as offered.
    Known from: transformers.TrainingArguments.__post_init__, Trainer.__init__.
    """
    section = context.section("training")
    strategy = section.get("eval_strategy", "no")
    off = strategy in NO
    data = context.section("dataset").get("eval")
    if not off and not data:
        yield Found(
            f"eval_strategy {strategy} asks for evaluation, and dataset.eval names no data: the run is refused. Add dataset.eval, or write "
            "eval_strategy: no",
            context.at("training", "eval_strategy"),
            {"eval_strategy": strategy, "dataset.eval": None},
            Fix("Write `eval_strategy: no`", changes=_without_evaluation(section)),
        )
    elif section.get("load_best_model_at_end") is True:
        yield from _best(context, section, "no" if off else str(strategy), bool(data))
    elif off and data:
        yield Found(
            "dataset.eval names data that nothing evaluates on: eval_strategy is no. Write epoch or steps to see whether the run overfits",
            context.at("dataset", "eval"),
            {"eval_strategy": "no"},
            Fix("Write `eval_strategy: epoch`", changes=(Change(("training", "eval_strategy"), "epoch"),)),
            "info",
        )


def _without_evaluation(section: dict[str, Any]) -> tuple[Change, ...]:
    changes = [Change(("training", "eval_strategy"), "no")]
    if section.get("load_best_model_at_end"):
        changes.append(Change(("training", "load_best_model_at_end"), remove=True))
    return tuple(changes)


def _best(context: DocumentContext, section: dict[str, Any], strategy: str, data: bool) -> Iterator[Found]:
    """What load_best_model_at_end needs."""
    saving = section.get("save_strategy", default_of("sft", "save_strategy"))
    saving = "no" if saving in NO else str(saving)
    where = context.at("training", "load_best_model_at_end")
    evidence: dict[str, Any] = {"eval_strategy": strategy, "save_strategy": saving}
    if saving == "best" and strategy != "no":
        return
    if strategy != saving or strategy == "no":
        wanted = saving if strategy == "no" else strategy
        key = "eval_strategy" if strategy == "no" and saving != "best" else "save_strategy"
        change = Change(("training", key), wanted)
        if strategy == "no" and (not data or saving in ("no", "best")):
            change = Change(("training", "load_best_model_at_end"), remove=True)
        title = "Remove `load_best_model_at_end`" if change.remove else f"Write `{key}: {wanted}`"
        yield Found(
            f"load_best_model_at_end needs evaluation and checkpoints at the same times, and eval_strategy is {strategy}, save_strategy "
            f"{saving}: the run is refused. Make them alike",
            where,
            evidence,
            Fix(title, changes=(change,)),
        )
        return
    if strategy == "steps":
        yield from _multiple(context, section, evidence)


def _multiple(context: DocumentContext, section: dict[str, Any], evidence: dict[str, Any]) -> Iterator[Found]:
    task = str(context.document.data.get("task", "sft"))
    logging = section.get("logging_steps", default_of(task, "logging_steps"))
    every = section.get("eval_steps") or logging
    save = section.get("save_steps", default_of(task, "save_steps"))
    numbers = [value for value in (every, save) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0]
    if len(numbers) != 2:
        return
    shares = [value < 1 for value in numbers]
    exact = round(save * 1_000_000) % round(every * 1_000_000) == 0 if all(shares) else not any(shares) and save % every == 0
    if not exact:
        better = max(1, round(save / every)) * every if not any(shares) else every
        yield Found(
            f"load_best_model_at_end: save_steps {save:g} is no multiple of eval_steps {every:g}, so a checkpoint has no evaluation of its "
            f"own, and the run is refused. Write save_steps: {better:g}",
            context.at("training", "save_steps" if "save_steps" in section else "eval_steps"),
            {**evidence, "save_steps": save, "eval_steps": every},
            Fix(f"Write `save_steps: {better:g}`", changes=(Change(("training", "save_steps"), better),)),
        )
