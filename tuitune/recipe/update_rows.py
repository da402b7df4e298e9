"""`launch.rows_per_update` and `launch.measure_split`: what a recipe may not say beside them, and what has no effect."""

from collections.abc import Iterator, Mapping
from typing import Any

from tuitune.recipe.problems import KeyPath
from tuitune.recipe.strategy import processes_of

KEY, MEASURE = "rows_per_update", "measure_split"
BATCH, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"
MEASURED_TASKS = ("sft", "dpo", "reward")  # KTO pairs its rows within a micro-batch when it prepares them; the others write their answers


def objections(launch: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """(key, what is wrong) for rows that cannot be taken apart as the recipe says. Sections as they are written, of any type."""
    rows, gpus = launch.get(KEY), processes_of(launch)
    if not isinstance(rows, int) or isinstance(rows, bool):
        return
    if rows < 1:
        yield ("launch", KEY), f"launch.{KEY} is {rows}: an update learns from one row at least"
    for name in (BATCH, ACCUMULATION):
        if name in training:
            yield ("training", name), f"launch.{KEY} chooses training.{name}: remove one of the two"
    if gpus > 1 and rows % gpus:
        yield ("launch", KEY), f"{rows} rows an update do not divide among {gpus} GPUs: write a multiple of {gpus}"


def why_not_measured(launch: Mapping[str, Any], training: Mapping[str, Any], task: object) -> str:
    """Why `launch.measure_split: true` has no effect, a sentence for the user; "" when it has one, or is not asked for."""
    rows, gpus = launch.get(KEY), launch.get("gpus")
    if launch.get(MEASURE) is not True:
        return ""
    if rows is None:
        return f"it measures how the rows of launch.{KEY} are best taken apart, and that is not set"
    if task not in MEASURED_TASKS:
        return f"it measures tasks {', '.join(MEASURED_TASKS[:-1])} and {MEASURED_TASKS[-1]}"
    if isinstance(gpus, int) and gpus > 1:
        return f"it measures on one GPU: of {gpus} each would have to wait for the others, also for one that has run out of memory"
    if training.get("torch_compile"):
        return "training.torch_compile would compile every candidate anew, and that is all it would measure"
    return ""
