"""Rows as the real trainer prepares them: TRL's own ids and labels, and for every token the row and the place in it that it comes from.

The truth is `trainer.train_dataset` of the real trainer built round a hollow model. Where a token came from is found by running TRL's own
preparation again with the limits off and a column of origins beside the ids, and counts only where that gives the same ids.
"""

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from trl import pack_dataset

from tuitune.analyst.document import IGNORED
from tuitune.analyst.fingerprints import random_fingerprints
from tuitune.analyst.hollow import hollow_model
from tuitune.errors import UserError
from tuitune.trainer.build import Built, assemble, make_config, make_tokenizer, rows_dataset

ROW = "tuitune_row"  # a column of our own; TRL's preparation keeps columns that it does not know
ORIGIN = "tuitune_origin"
ABOUT_EVALUATION = ("eval_strategy", "load_best_model_at_end")  # refused without evaluation rows, which are another question
_SHIFT = 1 << 32  # an origin is row * _SHIFT + position
NOWHERE = -1


@dataclass(frozen=True)
class Sequence:
    """What the trainer sees as one sequence. Equal lengths: `ids`, `labels` (-100: not in the loss), `rows` and `places` (row of the sample
    and index in its whole sequence, -1: unknown). `name`: input, chosen or rejected; `pack`: number of
    the packed sequence, None when packing is off."""

    name: str
    pack: int | None
    ids: list[int]
    labels: list[int]
    rows: list[int]
    places: list[int]


@dataclass(frozen=True)
class Whole:
    """A row's sequence before max_length and packing."""

    name: str
    ids: list[int]
    labels: list[int]


@dataclass
class PreparedRows:
    """`wholes[row]`: that row's sequences at full length; `sequences`: what is trained, in the trainer's order."""

    wholes: dict[int, list[Whole]]
    sequences: list[Sequence]

    @cached_property
    def parts(self) -> dict[int, list[tuple[Sequence, list[int]]]]:
        """For every row that is trained on: the sequences it is in, with its positions there."""
        found: dict[int, list[tuple[Sequence, list[int]]]] = {}
        for sequence in self.sequences:
            mine: dict[int, list[int]] = {}
            for position, row in enumerate(sequence.rows):
                mine.setdefault(row, []).append(position)
            for row, positions in mine.items():
                found.setdefault(row, []).append((sequence, positions))
        return found

    def status(self, row: int) -> str:
        """ "kept", "truncated" (some of its tokens are never trained on) or "dropped"."""
        wanted = sum(len(whole.ids) for whole in self.wholes.get(row, ()))
        seen = sum(len(positions) for _, positions in self.parts.get(row, ()))
        return "dropped" if seen == 0 else "truncated" if seen < wanted else "kept"


def prepared_rows(built: Built) -> PreparedRows:
    """Build the trainer of `built` round a hollow model and read what it prepared. UserError with TRL's reason when it refuses, and for
    tasks whose rows cannot be shown yet."""
    numbered = hollow_trainer(built)
    with random_fingerprints():
        return READERS[built.recipe.task](built.trainer, numbered)


def hollow_trainer(built: Built, tokenizer: Any = None) -> Any:
    """Make built.trainer, the real one around a hollow model; returns the rows it was given, with a column ROW. `tokenizer`: as
    make_tokenizer gives it, when somebody has it already. Errors as above."""
    if built.recipe.task not in READERS:
        raise UserError(f"task {built.recipe.task}: only rows of {' and '.join(READERS)} can be inspected so far; training is not affected")
    if built.eval is None:
        kept = {key: value for key, value in built.recipe.training.items() if key not in ABOUT_EVALUATION}
        built.recipe = replace(built.recipe, training=kept)
    config = make_config(built, Path(tempfile.gettempdir()))  # nothing is written there
    numbered = rows_dataset(built.train).add_column(ROW, range(len(built.train.rows)))
    # DPOTrainer loads the weights a second time, as the reference, when it is not given one
    tokenizer = make_tokenizer(built) if tokenizer is None else tokenizer
    reference = {"ref_model": hollow_model(built, tokenizer)} if built.recipe.task == "dpo" else {}
    try:
        with random_fingerprints():
            assemble(built, config, tokenizer, hollow_model(built, tokenizer), None, numbered, **reference)
    except UserError as error:
        from tuitune.analyst.refusal import with_place  # it prepares rows itself

        raise with_place(built, config, numbered, error) from error
    return numbered


def _sft(trainer: Any, numbered: Any) -> PreparedRows:
    args = copy.copy(trainer.args)
    args.max_length, args.packing = None, False
    unlimited = trainer._prepare_dataset(numbered, trainer.processing_class, args, False, None, "train")
    wholes = {row: [Whole("input", ids, labels)] for row, ids, labels in _columns(unlimited, ROW, "input_ids", "labels")}
    return PreparedRows(wholes, list(_packed(trainer, unlimited) if trainer.args.packing else _unpacked(trainer, wholes)))


def _columns(dataset: Any, *names: str) -> Iterator[tuple[Any, ...]]:
    for batch in dataset.select_columns(list(names)).iter(batch_size=256):
        yield from zip(*(batch[name] for name in names))


def _unpacked(trainer: Any, wholes: dict[int, list[Whole]]) -> Iterator[Sequence]:
    keeps_end = getattr(trainer.args, "truncation_mode", "keep_start") == "keep_end"
    for row, ids, labels in _columns(trainer.train_dataset, ROW, "input_ids", "labels"):
        whole = wholes[row][0].ids
        start = len(whole) - len(ids) if keeps_end else 0
        known = whole[start : start + len(ids)] == ids
        count = len(ids)
        yield Sequence(
            "input",
            None,
            ids,
            labels,
            rows=[row] * count,
            places=list(range(start, start + count)) if known else [NOWHERE] * count,
        )


def _packed(trainer: Any, unlimited: Any) -> Iterator[Sequence]:
    def add_origin(batch: dict[str, Any]) -> dict[str, Any]:
        origins = [[row * _SHIFT + at for at in range(len(ids))] for row, ids in zip(batch[ROW], batch["input_ids"])]
        return {ORIGIN: origins}

    args = trainer.args
    again = unlimited.map(add_origin, batched=True).select_columns(["input_ids", "labels", ORIGIN])
    if args.shuffle_dataset:
        again = again.shuffle(seed=args.seed)
    again = pack_dataset(again, args.max_length, args.packing_strategy, {})
    if args.shuffle_dataset:
        again = again.shuffle(seed=args.seed)
    truth = _columns(trainer.train_dataset, "input_ids", "labels")
    for number, ((ids, labels), (copied, origins)) in enumerate(zip(truth, _columns(again, "input_ids", ORIGIN), strict=True)):
        if copied != ids:
            raise UserError(
                f"packed sequence {number} cannot be traced back to rows: this version of TRL packs in a way that tuitune does not know. "
                "Install the versions of constraints.txt, or inspect with packing: false"
            )
        yield Sequence("input", number, ids, labels, [origin // _SHIFT for origin in origins], [origin % _SHIFT for origin in origins])


def _dpo(trainer: Any, numbered: Any) -> PreparedRows:
    wholes: dict[int, list[Whole]] = {}
    unlimited = copy.copy(trainer.args)
    unlimited.max_length = None
    prepared = trainer._prepare_dataset(numbered, trainer.processing_class, unlimited, "train")
    for row, prompt, chosen, rejected in _columns(prepared, ROW, "prompt_ids", "chosen_ids", "rejected_ids"):
        wholes[row] = [
            Whole(name, prompt + answer, [IGNORED] * len(prompt) + answer) for name, answer in (("chosen", chosen), ("rejected", rejected))
        ]
    return PreparedRows(wholes, list(_pairs(trainer, wholes)))


def _pairs(trainer: Any, wholes: dict[int, list[Whole]]) -> Iterator[Sequence]:
    """The collator cuts preference pairs to max_length, so its batch is what is trained."""
    keeps_end = getattr(trainer.args, "truncation_mode", "keep_start") == "keep_end"
    for example in trainer.train_dataset:
        row = example[ROW]
        batch = trainer.data_collator([{key: example[key] for key in ("prompt_ids", "chosen_ids", "rejected_ids")}])
        for at, whole in enumerate(wholes[row]):
            count = int(batch["attention_mask"][at].sum())
            ids = batch["input_ids"][at][:count].tolist()
            mask = batch["completion_mask"][at][:count].tolist()
            start = len(whole.ids) - count if keeps_end else 0
            known = whole.ids[start : start + count] == ids
            yield Sequence(
                whole.name,
                None,
                ids,
                [token if inside else IGNORED for token, inside in zip(ids, mask)],
                rows=[row] * count,
                places=list(range(start, start + count)) if known else [NOWHERE] * count,
            )


READERS = {"sft": _sft, "dpo": _dpo}
