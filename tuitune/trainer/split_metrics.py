"""TRL's metrics of a micro-batch that was done in parts: each is the average (or the extreme) that the whole would have had."""

from collections.abc import Callable, Sequence
from typing import Any

# What TRL 1.16 averages over, where it is not the rows or pairs (tests/contract/test_split_batch.py holds every name that it logs).
OVER = {
    "entropy": ("tokens",),
    "mean_token_accuracy": ("chosen", "tokens"),  # DPO's is of the chosen answers
    "logits/chosen": ("chosen",),
    "logits/rejected": ("rejected",),
}
EXTREMES: dict[str, Callable[..., float]] = {"min_reward": min, "max_reward": max}

Part = tuple[Callable[[dict[str, Any]], dict[str, float]], dict[str, Any], dict[str, list[float]]]
"""A layout's `weights`, the part's inputs, and what TRL logged of it."""


def joined(parts: Sequence[Part]) -> dict[str, list[float]]:
    """One value for each metric. What a single part has logged stays as it is."""
    logged = [metrics for _, _, metrics in parts]
    if len(parts) == 1:
        return logged[0]
    weights = [weigh(inputs) for weigh, inputs, _ in parts]
    return {name: [_join(name, [values[name][-1] for values in logged], weights)] for name in logged[0]}


def _join(name: str, values: list[float], weights: list[dict[str, float]]) -> float:
    if name in EXTREMES:
        return EXTREMES[name](values)
    unit = next(unit for unit in (*OVER.get(name, ()), "units") if unit in weights[0])
    total = sum(weight[unit] for weight in weights)
    return sum(value * weight[unit] for value, weight in zip(values, weights, strict=True)) / total if total else 0.0
