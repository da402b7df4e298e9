"""The micro-batch that needs the most memory of all that the sampler could draw, collated as the training would."""

from dataclasses import dataclass
from typing import Any

import torch

from tuitune.memory.expected import Batch
from tuitune.trainer.prepared import lists

ALONE = ("input_ids", "completion_ids", "KL_completion_ids", "chosen_ids", "rejected_ids")  # each makes a sequence of the model's input
BEFORE = "prompt_ids"  # what stands before each of them


@dataclass(frozen=True)
class Collated:
    """`inputs`: as the trainer's loader hands them out, still on the CPU."""

    inputs: dict[str, Any]
    batch: Batch


def longest_batch(loader: Any, size: int, *, padded: bool) -> Collated | None:
    """The longest batch of `size` rows from a data loader's own rows and collator; None when its rows have no tokens to count.

    Padded rows are all as long as the longest one, so that any batch with it is as large; of joined rows it is the one with the most
    tokens. Both are the longest rows together. Draws nothing from the loader.
    """
    rows = longest_rows(loader.dataset, size, padded=padded)
    if rows is None:
        return None
    inputs = dict(loader.collate_fn([loader.dataset[row] for row in rows]))
    ids = inputs.get("input_ids")
    if not isinstance(ids, torch.Tensor) or ids.dim() != 2:
        return None
    joined = padded is False and ids.shape[0] == 1
    length = -(-ids.shape[1] // len(rows)) if joined else ids.shape[1]
    return Collated(inputs, Batch(rows=len(rows), length=length, tokens=ids.numel(), scored=_scored(inputs)))


def longest_rows(dataset: Any, count: int, *, padded: bool) -> list[int] | None:
    """The numbers of the longest rows of a `datasets.Dataset`, the longest first; None when it has no column of tokens.

    `padded`: by their longest sequence (a pair has two), else by all their tokens.
    """
    import numpy

    lengths = {
        name: numpy.concatenate([each for _, each in lists(dataset, name)]) for name in (*ALONE, BEFORE) if name in dataset.column_names
    }
    before = lengths.pop(BEFORE, 0)
    if not lengths:
        return None
    sequences = numpy.stack([before + each for each in lengths.values()])
    widest, whole = sequences.max(axis=0), sequences.sum(axis=0)
    first, second = (widest, whole) if padded else (whole, widest)
    order = numpy.lexsort((numpy.arange(len(widest)), -second, -first))  # ties: the earlier row, so that every run takes the same
    return [int(row) for row in order[:count]]


def _scored(inputs: dict[str, Any]) -> float:
    """The share of positions that count for the loss."""
    labels, mask = inputs.get("labels"), inputs.get("completion_mask")
    if isinstance(labels, torch.Tensor) and labels.dim() == 2:
        return float((labels != -100).float().mean())
    return float(mask.float().mean()) if isinstance(mask, torch.Tensor) else 1.0
