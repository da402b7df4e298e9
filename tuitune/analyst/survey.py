"""Surveys a whole training set: how long its rows are, what is trained, cut, dropped and twice there, and how it packs.

The rows go through TRL's code in memory (whole_set.py). On a seeded sample the result is compared with the real trainer's own dataset,
id by id and label by label; where they differ the whole set goes through Dataset.map as in training, and the survey says why.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from random import Random
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tuitune.analyst.inspection import SAMPLE, SEED, subset
from tuitune.analyst.packing import packing
from tuitune.analyst.prepared_rows import ROW, hollow_trainer
from tuitune.analyst.render_watch import RenderWatch
from tuitune.analyst.survey_document import BUCKETS, KEPT_ROWS, Histogram, Survey
from tuitune.analyst.trained_rows import Trained, trained
from tuitune.analyst.whole_set import Column, Numbers, WholeSet, prepare, without_limit
from tuitune.dataset.load import Split
from tuitune.dataset.looked_at import remember
from tuitune.recipe.recipe import Recipe
from tuitune.trainer.build import Built, begin, rows_dataset
from tuitune.trainer.prepared import hash_rows, integer_columns

MOST = 200_000  # rows that are looked at; of more a seeded sample


def survey(recipe: Recipe, watch: RenderWatch, progress: Callable[[str], None], most: int = MOST) -> Survey:
    """Figures over the training set of a recipe. UserError when it cannot be prepared, with TRL's own reason and the row's place."""
    clock = _Clock()
    progress("reading the rows")
    built = begin(recipe)
    evaluation, built.eval = built.eval, None
    recipe.training.pop("eval_strategy", None)  # it asks for evaluation data
    whole = built.train
    total = len(whole.rows)
    numbers = list(range(total)) if total <= most else sorted(Random(SEED).sample(range(total), most))
    clock.note("read")
    sample = sorted(Random(SEED).sample(numbers, min(SAMPLE, len(numbers))))
    built.train = subset(whole, sample)
    hollow_trainer(built)
    truth, built.train = built.trainer.train_dataset, whole
    clock.note("sample")
    prepared, difference = _prepared(built, numbers, sample, truth, watch, progress)
    clock.note("rows")
    progress("counting")
    remains = trained(built, prepared)
    faults = _faults(prepared, remains) | _twice(whole, evaluation, numbers)
    lengths, longest = _lengths(prepared, remains)
    hashed = hash_rows(remains.dataset).sha256 if len(numbers) == total else None
    if hashed is not None:
        with suppress(OSError):  # a cache that cannot be written costs the comparison at run start, not the survey
            remember(recipe, whole.fingerprint(), hashed)
    clock.note("figures")
    args = built.trainer.args
    return Survey(
        total=total,
        looked=len(numbers),
        prepared_by="trl" if difference else "quick",
        difference=difference,
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


class _Clock:
    """Seconds of each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._at = time.monotonic()

    def note(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[phase] = round(now - self._at, 3)
        self._at = now


def _prepared(
    built: Built, numbers: Sequence[int], sample: Sequence[int], truth: Any, watch: RenderWatch, progress: Callable[[str], None]
) -> tuple[WholeSet, str]:
    """The prepared set, and why the quick way was not taken ("" when it was)."""
    if not getattr(built.trainer.processing_class, "is_fast", False):
        why = "this tokenizer is written in Python"
    else:
        prepared = prepare(built, numbers, watch, progress)
        why = differs(truth, trained(built, _part(prepared, sample)).dataset)
    if not why:
        return prepared, ""
    progress(f"{why}: TRL's own preparation of {len(numbers):,} rows, which takes longer")
    return _by_trl(built, numbers), why


def differs(truth: Any, found: Any) -> str:
    """Where two prepared datasets are not the same, "" when they are."""
    if len(truth) != len(found):
        return f"the quick preparation of the sample made {len(found)} sequences, TRL {len(truth)}"
    names = [name for name in found.column_names if name in truth.column_names]
    for name in names:
        for at, (ours, theirs) in enumerate(zip(found[name], truth[name])):
            if list(ours) != list(theirs):
                return f"the quick preparation differs from TRL's in {name} of the sample's sequence {at}"
    return ""


def _part(prepared: WholeSet, numbers: Sequence[int]) -> WholeSet:
    """The rows with these numbers."""
    chosen = np.isin(prepared.rows, np.asarray(numbers))
    columns = {}
    for name, column in prepared.columns.items():
        columns[name] = Column(column.values[np.repeat(chosen, column.lengths)], column.lengths[chosen])
    return WholeSet(prepared.rows[chosen], prepared.lost[chosen], columns, {role: n[chosen] for role, n in prepared.roles.items()})


def _by_trl(built: Built, numbers: Sequence[int]) -> WholeSet:
    """Through Dataset.map, as in training; without roles."""
    trainer = built.trainer
    dataset = rows_dataset(subset(built.train, numbers)).add_column(ROW, list(numbers))
    if built.recipe.task == "sft":
        done = trainer._prepare_dataset(dataset, trainer.processing_class, without_limit(trainer.args), False, None, "train")
    else:
        done = trainer._prepare_dataset(dataset, trainer.processing_class, trainer.args, "train")
    columns = {name: Column.of(done[name]) for name in integer_columns(done)}
    return WholeSet(np.array(done[ROW], dtype=np.int64), np.zeros(len(done), dtype=bool), columns, {})


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
        prompt, chosen, rejected = (prepared.columns[name].lengths for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
        lengths = prompt + np.maximum(chosen, rejected)
    else:
        lengths = remains.whole
    return lengths, int(prepared.rows[lengths.argmax()]) if len(lengths) else -1


def _histogram(lengths: Numbers) -> Histogram:
    most = int(lengths.max(initial=0)) + 1
    step = next(step for power in range(12) for step in (10**power, 2 * 10**power, 5 * 10**power) if step * BUCKETS >= most)
    return Histogram(step, np.bincount(lengths // step).tolist())
