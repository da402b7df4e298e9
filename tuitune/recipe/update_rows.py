"""`launch.rows_per_update`: what a recipe may not say beside it."""

from collections.abc import Iterator, Mapping
from typing import Any

from tuitune.recipe.problems import KeyPath
from tuitune.recipe.strategy import processes_of

KEY = "rows_per_update"
BATCH, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"


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
