"""What is trained of a whole set: cut, dropped and packed by TRL's own code, with how many tokens of every row remain."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow
from datasets import Dataset
from trl import pack_dataset

from tuitune.analyst.document import IGNORED
from tuitune.analyst.prepared_rows import ORIGIN, ROW
from tuitune.analyst.quick_rows import LOST, RowList
from tuitune.analyst.whole_set import Column, Numbers, WholeSet
from tuitune.errors import UserError
from tuitune.trainer.build import Built
from tuitune.trainer.prepared import lists

COLLATED = 64  # preference pairs in one batch of the collator


@dataclass
class Trained:
    """In the order of WholeSet.rows, which say whose they are: `whole` tokens of a row before max_length, `seen` of them in what is
    trained, `counted` in the loss. `dataset`: as the trainer would have it; `parts`: packed sequences a row is in (unpacked: 0, 1)."""

    whole: Numbers
    seen: Numbers
    counted: Numbers
    parts: Numbers
    dataset: Dataset


def trained(built: Built, prepared: WholeSet) -> Trained:
    """Run the second half of TRL's preparation on a prepared set."""
    if built.recipe.task == "dpo":
        return _pairs(built, prepared)
    return _packed(built, prepared) if built.trainer.args.packing else _cut(built, prepared)


def as_dataset(columns: dict[str, Column]) -> Dataset:
    """Columns of integers as TRL would have them in a Dataset."""
    arrays = {}
    for name, column in columns.items():
        offsets = np.concatenate([[0], np.cumsum(column.lengths)])
        arrays[name] = pyarrow.ListArray.from_arrays(pyarrow.array(offsets, pyarrow.int32()), pyarrow.array(column.values))
    return Dataset(pyarrow.table(arrays))


def _cut(built: Built, prepared: WholeSet) -> Trained:
    """TRL cuts and drops. It gets those rows only to which either can happen, which is proven with the rest on the sample."""
    columns, whole = prepared.columns, prepared.columns["input_ids"].lengths
    counted = in_loss(columns["labels"])
    seen = whole.copy()
    trainer, args = built.trainer, built.trainer.args
    limit, order = args.max_length, range(len(whole))
    touched = order if args.shuffle_dataset else np.flatnonzero((counted == 0) | (whole > limit if limit else False)).tolist()
    if not touched:
        return Trained(whole, seen, counted, (seen > 0).astype(np.int64), as_dataset(columns))
    lists = {name: column.rows() for name, column in columns.items()}
    rows = RowList([{ROW: at, **{name: found[at] for name, found in lists.items()}} for at in touched])
    prepared_rows = trainer._prepare_dataset(rows, trainer.processing_class, args, False, None, "train")
    cut = {row[ROW]: row for row in prepared_rows if LOST not in row}
    for at in touched:
        seen[at] = len(cut[at]["input_ids"]) if at in cut else 0
        counted[at] = np.count_nonzero(np.asarray(cut[at]["labels"]) != IGNORED) if at in cut else 0
    dropped = set(touched) - cut.keys()
    kept = [at for at in (cut if args.shuffle_dataset else order) if at not in dropped]
    remaining = {name: Column.of([cut[at][name] if at in cut else found[at] for at in kept]) for name, found in lists.items()}
    return Trained(whole, seen, counted, (seen > 0).astype(np.int64), as_dataset(remaining))


def in_loss(labels: Column) -> Numbers:
    """How many labels of each row count."""
    sums = np.concatenate([[0], np.cumsum(labels.values != IGNORED)])
    ends = np.cumsum(labels.lengths)
    return sums[ends] - sums[ends - labels.lengths]  # type: ignore[no-any-return]


def _packed(built: Built, prepared: WholeSet) -> Trained:
    trainer, args = built.trainer, built.trainer.args
    lengths = prepared.columns["input_ids"].lengths
    dataset = trainer._prepare_dataset(as_dataset(prepared.columns), trainer.processing_class, args, True, None, "train")
    whose = Column(np.repeat(np.arange(len(lengths), dtype=np.int32), lengths), lengths)
    again: Any = as_dataset({**{name: prepared.columns[name] for name in ("input_ids", "labels")}, ORIGIN: whose})
    if args.shuffle_dataset:
        again = again.shuffle(seed=args.seed)
    again = pack_dataset(again, args.max_length, args.packing_strategy, {})
    if args.shuffle_dataset:
        again = again.shuffle(seed=args.seed)
    origins, ids, labels = (_flat(again, name) for name in (ORIGIN, "input_ids", "labels"))
    if not np.array_equal(ids, _flat(dataset, "input_ids")):
        raise UserError(
            "packed sequences cannot be traced back to rows: this version of TRL packs in a way that tuitune does not know. "
            "Install the versions of constraints.txt"
        )
    count = len(lengths)
    sequence = np.repeat(np.arange(len(again)), [len(row) for row in again.with_format("arrow")[ORIGIN].to_pylist()])
    pairs = np.unique(sequence.astype(np.int64) * count + origins)
    return Trained(
        lengths,
        np.bincount(origins, minlength=count),
        np.bincount(origins[labels != IGNORED], minlength=count),
        np.bincount(pairs % count, minlength=count),
        dataset,
    )


def _flat(dataset: Dataset, name: str) -> Numbers:
    """All integers of a list column, one row after the other."""
    return np.concatenate([np.zeros(0, np.int64), *(numbers for numbers, _ in lists(dataset, name))])


def _pairs(built: Built, prepared: WholeSet) -> Trained:
    """Both sides of preference pairs count together. The collator cuts, so its batches say what remains."""
    kept = {
        name: [row.tolist() for row, lost in zip(column.rows(), prepared.lost) if not lost] for name, column in prepared.columns.items()
    }
    seen, counted = np.zeros(len(prepared.rows), np.int64), np.zeros(len(prepared.rows), np.int64)
    order = np.flatnonzero(~prepared.lost)
    examples = [dict(zip(kept, values)) for values in zip(*kept.values())]
    for start in range(0, len(examples), COLLATED):
        batch = built.trainer.data_collator(examples[start : start + COLLATED])
        rows = order[start : start + COLLATED]
        for name, into in (("attention_mask", seen), ("completion_mask", counted)):
            chosen, rejected = batch[name].sum(dim=1).numpy().reshape(2, -1)
            into[rows] = chosen + rejected
    prompt, chosen, rejected = (prepared.columns[name].lengths for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    return Trained(
        2 * prompt + chosen + rejected,
        seen,
        counted,
        (seen > 0).astype(np.int64),
        as_dataset({name: Column.of(rows) for name, rows in kept.items()}),
    )
