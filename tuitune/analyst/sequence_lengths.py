"""How long the sequences of a prepared set are, for the memory plan (tuitune.dataset.lengths)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tuitune.analyst.proven_set import ProvenSet
from tuitune.analyst.render_watch import RenderWatch
from tuitune.analyst.trained_rows import Trained, in_loss
from tuitune.analyst.whole_set import Column, Numbers, WholeSet, prepare
from tuitune.dataset.lengths import COUNTS, Lengths
from tuitune.errors import UserError
from tuitune.trainer.prepared import lists

MOST_EVALUATION = 5_000  # rows of dataset.eval that are prepared to know the longest; more would take too long for one figure


def sequence_lengths(proven: ProvenSet, remains: Trained, watch: RenderWatch, progress: Callable[[str], None]) -> Lengths | None:
    """The figures of a whole training set, None when no sequence is left of it."""
    if "prompt_ids" in proven.prepared.columns:
        kept = remains.seen > 0
        lengths, counted = _cut(proven, longer_side(proven.prepared))[kept], remains.counted[kept]
    else:
        lengths = column(remains.dataset, "input_ids").lengths
        counted = in_loss(column(remains.dataset, "labels"))
    if not len(lengths):
        return None
    return Lengths(len(lengths), int(lengths.sum()), _sums(lengths), _sums(counted), _longest_evaluation(proven, watch, progress))


def longer_side(prepared: WholeSet) -> Numbers:
    """Tokens of the longer side of each preference pair."""
    prompt, chosen, rejected = (prepared.columns[name].lengths for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    return prompt + np.maximum(chosen, rejected)


def column(dataset: Any, name: str) -> Column:
    """A list column of a `datasets.Dataset`."""
    parts = list(lists(dataset, name))
    values = [numbers.astype(np.int32) for numbers, _ in parts]
    return Column(np.concatenate([np.zeros(0, np.int32), *values]), np.concatenate([np.zeros(0, np.int64), *(rows for _, rows in parts)]))


def _sums(numbers: Numbers) -> tuple[int, ...]:
    """The sums of the 1, 2, 4, … largest."""
    largest = np.sort(numbers)[::-1][: COUNTS[-1]]
    sums = np.cumsum(largest)
    return tuple(int(sums[min(count, len(sums)) - 1]) for count in COUNTS)


def _cut(proven: ProvenSet, lengths: Numbers) -> Numbers:
    limit = proven.built.trainer.args.max_length
    return lengths if limit is None else np.minimum(lengths, limit)


def _longest_evaluation(proven: ProvenSet, watch: RenderWatch, progress: Callable[[str], None]) -> int | None:
    """Tokens of the longest evaluation row, cut as the training rows are."""
    evaluation, args = proven.evaluation, proven.built.trainer.args
    packed = getattr(args, "packing", False) if getattr(args, "eval_packing", None) is None else args.eval_packing
    if evaluation is None or packed or proven.difference or not 0 < len(evaluation.rows) <= MOST_EVALUATION:
        return None
    built = replace(proven.built, train=evaluation)
    try:
        prepared = prepare(built, range(len(evaluation.rows)), watch, progress)
    except UserError:
        return None  # rows that cannot be prepared are told where they are looked at
    whole = longer_side(prepared) if "prompt_ids" in prepared.columns else prepared.columns["input_ids"].lengths
    return int(_cut(proven, whole).max())
