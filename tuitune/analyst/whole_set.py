"""A whole training set prepared by TRL's own code in one process a core, as arrays: ids, labels, lengths and roles of every row."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuitune.analyst.conversation import messages_of
from tuitune.analyst.inspection import renderer
from tuitune.analyst.prepared_rows import ROW
from tuitune.analyst.quick_rows import LOST, FaultAt, RowList, quick
from tuitune.analyst.render_watch import RenderWatch
from tuitune.analyst.shards import sharded
from tuitune.errors import UserError
from tuitune.template.skeletons import Skeletons
from tuitune.template.spans import TEMPLATE, UNKNOWN
from tuitune.text import printable
from tuitune.trainer.build import Built, reason_of

Numbers = NDArray[np.int64]
Matches = Callable[[str, list[int]], bool]
ROLES = "tuitune_roles"  # columns of our own: role → tokens; whether somebody looks for the row
MATCHED = "tuitune_matched"
SHARDS = 8
BATCH = 200  # rows between two words of progress


@dataclass
class Column:
    """One list of integers a row: `values` of all rows one after the other, `lengths` of each."""

    values: NDArray[np.int32]
    lengths: Numbers

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Column":
        """From lists, or from rows of another column."""
        arrays = [np.asarray(row, dtype=np.int32) for row in rows]
        return cls(np.concatenate([np.zeros(0, np.int32), *arrays]), np.array([len(row) for row in rows], dtype=np.int64))

    def rows(self) -> list[memoryview]:
        """Each row's integers. A slice of them copies nothing, and they come out as Python's own."""
        values, ends = self.values.data, np.cumsum(self.lengths).tolist()
        return [values[start:stop] for start, stop in zip([0, *ends], ends)]


@dataclass
class WholeSet:
    """`rows`: row numbers in TRL's order; `lost`: those that it leaves out; `matched`: those that somebody looks for; `columns`: the lists
    of integers that TRL makes of a row, before max_length and packing; `roles`: role → tokens of each row."""

    rows: Numbers
    lost: NDArray[np.bool_]
    matched: NDArray[np.bool_]
    columns: dict[str, Column]
    roles: dict[str, Numbers]


def prepare(
    built: Built,
    numbers: Sequence[int],
    watch: RenderWatch,
    progress: Callable[[str], None],
    matches: Matches | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> WholeSet:
    """Rows `numbers` of built.train through the code of built.trainer, uncut. `matches`: of a text and its ids, whether somebody looks for
    it; `meanwhile` is called while other processes work. UserError names file and line of a row on which TRL or the template fails."""
    tokenizer, skeletons = quick(built.trainer.processing_class), Skeletons()

    def part(slot: int, indices: range) -> WholeSet:
        watch.slot = slot
        found = []
        for start in range(indices.start, indices.stop, BATCH):
            batch = [numbers[at] for at in range(start, min(start + BATCH, indices.stop))]
            found.append(_arrays(built, tokenised(built, tokenizer, batch, skeletons, matches)))
            if slot == 1:
                done = (start + len(batch) - indices.start) / len(indices)
                progress(f"preparing {len(numbers):,} rows: {100 * done:.0f} %")
        return joined(found)

    return joined(sharded(len(numbers), part, min(SHARDS, len(numbers)), meanwhile))


def tokenised(built: Built, tokenizer: Any, numbers: Sequence[int], skeletons: Skeletons, matches: Matches | None = None) -> RowList:
    """These rows of built.train through TRL's code, with a `quick` tokenizer; `skeletons` learns its template. UserError names
    file and line of one that fails."""
    render = renderer(built, tokenizer)

    def note(example: dict[str, Any]) -> dict[str, Any]:
        names = ("input",) if "input_ids" in example else ("chosen", "rejected")
        calls = tokenizer.take_calls()[-len(names) :]
        matched = matches is not None and any(matches(text, encoding.ids) for text, encoding in calls)
        return {ROLES: _roles(example, names, calls, render, skeletons), MATCHED: matched}

    trainer = built.trainer
    rows = RowList([{**built.train.rows[number], ROW: number} for number in numbers], note)
    try:
        if built.recipe.task == "sft":
            return trainer._prepare_dataset(rows, tokenizer, without_limit(trainer.args), False, None, "train")  # type: ignore[no-any-return]
        return trainer._prepare_dataset(rows, tokenizer, trainer.args, "train")  # type: ignore[no-any-return]
    except FaultAt as fault:
        number = numbers[fault.at]
        file, line = built.train.places[number]
        raise UserError(f"{printable(file)}:{line}: this row cannot be prepared: {reason_of(fault.__cause__ or fault)}") from fault


def without_limit(args: Any) -> Any:
    """A copy of an SFTConfig whose preparation neither cuts, packs nor shuffles."""
    free = copy.copy(args)
    free.max_length = None
    for name in ("packing", "shuffle_dataset"):
        if hasattr(free, name):
            setattr(free, name, False)
    return free


def _roles(
    example: dict[str, Any], names: Sequence[str], calls: Sequence[Any], render: Callable[..., str], skeletons: Skeletons
) -> dict[str, int]:
    """role → tokens of a row. Tokens of the data's texts belong to their turn's role, all others to the template."""
    counts: dict[str, int] = {}
    for name, (text, encoding) in zip(names, calls):
        turns = messages_of(example, name)
        if turns is None:
            counts[UNKNOWN] = counts.get(UNKNOWN, 0) + len(encoding)
            continue
        rest = len(encoding)
        for start, end, source, role in skeletons.sources(turns, lambda marked: render(example, marked), text):
            tokens = _tokens_in(encoding, start, end)
            rest -= tokens
            whose = UNKNOWN if source == UNKNOWN else role
            counts[whose] = counts.get(whose, 0) + tokens
        counts[TEMPLATE] = counts.get(TEMPLATE, 0) + rest
    return counts


def _tokens_in(encoding: Any, start: int, end: int) -> int:
    """Tokens whose last character is one of those from `start` to `end`."""
    first, last = encoding.char_to_token(start), encoding.char_to_token(end - 1)
    if first is None or last is None:  # characters that the tokenizer leaves out
        return sum(start < to <= end for from_, to in encoding.offsets if from_ < to)
    return int(last - first + (encoding.token_to_chars(last)[1] <= end))


def _arrays(built: Built, prepared: RowList) -> WholeSet:
    first = prepared.rows[0]
    given = built.train.rows[first[ROW]]
    # a prompt that TRL found in chosen and rejected is made too, and is a list of turns
    made = [name for name, value in first.items() if isinstance(value, list) and name not in given and name != "prompt"]
    columns = {name: Column.of([row[name] for row in prepared.rows]) for name in made}
    roles: dict[str, Numbers] = {}
    for at, row in enumerate(prepared.rows):
        for role, tokens in row[ROLES].items():
            roles.setdefault(role, np.zeros(len(prepared), dtype=np.int64))[at] = tokens
    rows = np.array([row[ROW] for row in prepared.rows], dtype=np.int64)
    lost, matched = (np.array([bool(row.get(name)) for row in prepared.rows], dtype=bool) for name in (LOST, MATCHED))
    return WholeSet(rows, lost, matched, columns, roles)


def joined(parts: Sequence[WholeSet]) -> WholeSet:
    """Parts one after the other."""
    roles = {role for part in parts for role in part.roles}
    return WholeSet(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.lost for part in parts]),
        np.concatenate([part.matched for part in parts]),
        {
            name: Column(
                np.concatenate([part.columns[name].values for part in parts]),
                np.concatenate([part.columns[name].lengths for part in parts]),
            )
            for name in parts[0].columns
        },
        {
            role: np.concatenate([part.roles.get(role, np.zeros(len(part.rows), dtype=np.int64)) for part in parts])
            for role in sorted(roles)
        },
    )
