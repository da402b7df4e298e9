"""Figures over a whole training set: how long its rows are, what is trained, cut, dropped and twice there, and how it packs."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tuitune.analyst.packing import packing
from tuitune.analyst.proven_set import MOST, Clock, prove
from tuitune.analyst.render_watch import RenderWatch
from tuitune.analyst.sequence_lengths import longer_side, sequence_lengths
from tuitune.analyst.survey_document import BUCKETS, KEPT_ROWS, Histogram, Survey
from tuitune.analyst.trained_rows import Trained, trained
from tuitune.analyst.whole_set import Numbers, WholeSet
from tuitune.dataset.lengths import stamp
from tuitune.dataset.load import Split
from tuitune.dataset.looked_at import remember
from tuitune.recipe.recipe import Recipe
from tuitune.trainer.prepared import hash_rows


def survey(recipe: Recipe, watch: RenderWatch, progress: Callable[[str], None], most: int = MOST) -> Survey:
    """Figures over the training set of a recipe. UserError when it cannot be prepared, with TRL's own reason and the row's place."""
    before = stamp(recipe)
    found = prove(recipe, watch, progress, most)
    built, prepared, numbers, whole = found.built, found.prepared, found.numbers, found.built.train
    clock = Clock(found.seconds)
    progress("counting")
    remains = trained(built, prepared)
    faults = _faults(prepared, remains) | _twice(whole, found.evaluation, numbers)
    lengths, longest = _lengths(prepared, remains)
    total = len(whole.rows)
    hashed = hash_rows(remains.dataset).sha256 if len(numbers) == total else None
    if hashed is not None:
        with suppress(OSError):  # a cache that cannot be written costs the comparison at run start, not the survey
            remember(recipe, whole.fingerprint(), hashed, sequence_lengths(found, remains, watch, progress), before)
    clock.note("figures")
    args = built.trainer.args
    return Survey(
        total=total,
        looked=len(numbers),
        prepared_by="trl" if found.difference else "quick",
        difference=found.difference,
        max_length=args.max_length,
        tokens=int(remains.whole.sum()),
        lost=int((remains.whole - remains.seen).clip(min=0).sum()),
        trained=int(remains.counted.sum()),
        longest=int(lengths.max(initial=0)),
        longest_row=longest,
        by_role={role: int(tokens.sum()) for role, tokens in prepared.roles.items()},
        histograms={"all": _histogram(lengths)} | {role: _histogram(tokens) for role, tokens in prepared.roles.items()},
        counts={name: len(rows) for name, rows in faults.items()},
        faults={name: rows[:KEPT_ROWS].tolist() for name, rows in faults.items()},
        packing=packing(built, remains) if getattr(args, "packing", False) else None,
        sha256=hashed,
        seconds=clock.seconds,
    )


def _faults(prepared: WholeSet, remains: Trained) -> dict[str, NDArray[np.int64]]:
    cases = {
        "truncated": (remains.seen > 0) & (remains.seen < remains.whole),
        "dropped": remains.seen == 0,
        "masked": (remains.seen > 0) & (remains.counted == 0),
    }
    return {name: prepared.rows[found] for name, found in cases.items()}


def _twice(train: Split, evaluation: Split | None, numbers: Sequence[int]) -> dict[str, NDArray[np.int64]]:
    """Rows that are the same, value for value, as one before them, or as one of the evaluation's."""
    seen: set[bytes] = set()
    held_out = {_digest(row) for row in evaluation.rows} if evaluation else set()
    duplicate, overlap = [], []
    for number in numbers:
        digest = _digest(train.rows[number])
        if digest in seen:
            duplicate.append(number)
        seen.add(digest)
        if digest in held_out:
            overlap.append(number)
    return {"duplicate": np.array(duplicate, dtype=np.int64), "overlap": np.array(overlap, dtype=np.int64)}


def _digest(row: dict[str, Any]) -> bytes:
    return blake2b(msgspec.json.encode(row, enc_hook=str), digest_size=16).digest()


def _lengths(prepared: WholeSet, remains: Trained) -> tuple[Numbers, int]:
    """Tokens of each row's longest sequence, and the number of the row with the longest."""
    if "prompt_ids" in prepared.columns:
        lengths = longer_side(prepared)
    else:
        lengths = remains.whole
    return lengths, int(prepared.rows[lengths.argmax()]) if len(lengths) else -1


def _histogram(lengths: Numbers) -> Histogram:
    most = int(lengths.max(initial=0)) + 1
    step = next(step for power in range(12) for step in (10**power, 2 * 10**power, 5 * 10**power) if step * BUCKETS >= most)
    return Histogram(step, np.bincount(lengths // step).tolist())
