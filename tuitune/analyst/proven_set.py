"""A whole training set prepared the quick way and proven right on a sample, or prepared by TRL itself.

The rows go through TRL's code in memory (whole_set.py). On a seeded sample the result is compared with the real trainer's own dataset,
id by id and label by label; where they differ the whole set goes through Dataset.map as in training, and `difference` says why.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np

from tuitune.analyst.fingerprints import random_fingerprints
from tuitune.analyst.inspection import SAMPLE, SEED, choose, subset
from tuitune.analyst.prepared_rows import ROW, hollow_trainer
from tuitune.analyst.render_watch import RenderWatch
from tuitune.analyst.trained_rows import trained
from tuitune.analyst.whole_set import Column, Matches, WholeSet, prepare, without_limit
from tuitune.dataset.load import Split
from tuitune.recipe.recipe import Recipe
from tuitune.trainer.build import Built, begin, rows_dataset
from tuitune.trainer.prepared import integer_columns

MOST = 200_000  # rows that are looked at; of more a seeded sample
FEW = 4  # rows round which the trainer is built whose code prepares all of them


@dataclass
class ProvenSet:
    """`built` has all rows and a hollow trainer; `numbers` are those that were prepared; `evaluation`: rows of dataset.eval, if any;
    `difference`: why TRL itself prepared them, "" when the quick way was right; `seconds`: phase → seconds."""

    built: Built
    evaluation: Split | None
    numbers: Sequence[int]
    prepared: WholeSet
    difference: str
    seconds: dict[str, float]


def prove(
    recipe: Recipe,
    watch: RenderWatch,
    progress: Callable[[str], None],
    most: int = MOST,
    matches: Matches | None = None,
    begun: Built | None = None,
    tokenizer: Any = None,
) -> ProvenSet:
    """Prepare a recipe's training set. `begun` has its rows, and `tokenizer` is make_tokenizer's, when somebody has them already.
    UserError when it cannot be prepared, with TRL's own reason and the row's place."""
    clock = Clock()
    progress("reading the rows")
    built = begun or begin(recipe)
    evaluation, built.eval = built.eval, None
    whole = built.train
    total = len(whole.rows)
    numbers = choose(total, None, most)
    clock.note("read")
    sample = sorted(Random(SEED).sample(numbers, min(SAMPLE, len(numbers))))
    built.train = subset(whole, sample[:FEW])
    hollow_trainer(built, None if tokenizer is None else twin(tokenizer))
    built.train = whole
    clock.note("trainer")
    prepared, difference = _prepared(built, numbers, sample, watch, progress, matches)
    clock.note("rows")
    return ProvenSet(built, evaluation, numbers, prepared, difference, clock.seconds)


def twin(tokenizer: Any) -> Any:
    """A tokenizer on the same vocabulary whose pad token, end token and template a trainer may set without changing this one's."""
    made = copy.copy(tokenizer)
    vars(made).update({name: copy.copy(value) for name, value in vars(tokenizer).items() if isinstance(value, dict | list)})
    return made


class Clock:
    """Seconds of each phase."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = {} if seconds is None else seconds
        self._at = time.monotonic()

    def note(self, phase: str) -> None:
        """The phase that began with the last note is over."""
        now = time.monotonic()
        self.seconds[phase] = round(now - self._at, 3)
        self._at = now


def _prepared(
    built: Built,
    numbers: Sequence[int],
    sample: Sequence[int],
    watch: RenderWatch,
    progress: Callable[[str], None],
    matches: Matches | None,
) -> tuple[WholeSet, str]:
    """The prepared set, and why the quick way was not taken ("" when it was)."""
    tokenizer = built.trainer.processing_class
    by_trl = replace(built, train=subset(built.train, sample))

    def prepare_sample() -> None:
        hollow_trainer(by_trl, tokenizer)

    if not getattr(tokenizer, "is_fast", False):
        why = "this tokenizer is written in Python"
    else:
        prepared = prepare(built, numbers, watch, progress, matches, meanwhile=prepare_sample)
        why = differs(by_trl.trainer.train_dataset, trained(built, _part(prepared, sample)).dataset)
    if not why:
        return prepared, ""
    progress(f"{why}: TRL's own preparation of {len(numbers):,} rows, which takes longer")
    return _by_trl(built, numbers), why


def differs(truth: Any, found: Any) -> str:
    """Where two prepared datasets are not the same, "" when they are."""
    if len(truth) != len(found):
        return f"the quick preparation of the sample made {len(found)} sequences, TRL {len(truth)}"
    if (ours := integer_columns(found)) != (theirs := integer_columns(truth)):
        return f"the quick preparation makes {', '.join(ours)} of a row, TRL {', '.join(theirs)}"
    for name in ours:
        for at, (mine, its) in enumerate(zip(found[name], truth[name])):
            if list(mine) != list(its):
                return f"the quick preparation differs from TRL's in {name} of the sample's sequence {at}"
    return ""


def _part(prepared: WholeSet, numbers: Sequence[int]) -> WholeSet:
    """The rows with these numbers."""
    chosen = np.isin(prepared.rows, np.asarray(numbers))
    columns = {}
    for name, column in prepared.columns.items():
        columns[name] = Column(column.values[np.repeat(chosen, column.lengths)], column.lengths[chosen])
    return WholeSet(
        prepared.rows[chosen],
        prepared.lost[chosen],
        prepared.matched[chosen],
        columns,
        {role: n[chosen] for role, n in prepared.roles.items()},
    )


def _by_trl(built: Built, numbers: Sequence[int]) -> WholeSet:
    """Through Dataset.map, as in training; without roles."""
    trainer = built.trainer
    dataset = rows_dataset(subset(built.train, numbers)).add_column(ROW, list(numbers))
    with random_fingerprints():
        if built.recipe.task == "sft":
            done = trainer._prepare_dataset(dataset, trainer.processing_class, without_limit(trainer.args), False, None, "train")
        else:
            done = trainer._prepare_dataset(dataset, trainer.processing_class, trainer.args, "train")
    columns = {name: Column.of(done[name]) for name in integer_columns(done)}
    nothing = np.zeros(len(done), dtype=bool)
    return WholeSet(np.array(done[ROW], dtype=np.int64), nothing, nothing, columns, {})
