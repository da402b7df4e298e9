"""What stands where a text or a conversation is needed: nothing, numbers, dates, truth values, lists (DAT01 to DAT05)."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from tuitune.dataset.columns import OPTIONAL
from tuitune.preflight.data.common import at, evidence, leave_out, line, rewrite, share
from tuitune.preflight.data_steps import TALKS, TEXTS, is_talk
from tuitune.preflight.finding import Found
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext
    from tuitune.analyst.raw_rows import RawRow, RawSource, RawSplit

EMPTY_CELLS = {"", "na", "n/a", "nan", "null", "none", "<na>", "#n/a"}
DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")
DIGITS = re.compile(r"[+-]?\d+([.,]\d+)*")
KNOWS_PARTS = re.compile(r"\[['\"](type|text)['\"]\]|\.(type|text)\b|is iterable|is sequence|content is string")
SHAPE = ("messages", "prompt", "completion", "text", "chosen", "rejected")


def is_nothing(value: Any) -> bool:
    """Null, or NaN, which is what pandas writes for it."""
    return value is None or value != value


def text_columns(source: "RawSource") -> list[tuple[str, str]]:
    """(target, column) of the columns that hold texts."""
    return [(target, column) for target, column in (source.columns or {}).items() if target in TEXTS]


def turns_of(source: "RawSource") -> "Iterator[tuple[RawRow, dict[str, Any]]]":
    """Every turn of the conversations in a source, as it stands there."""
    columns = [column for target, column in (source.columns or {}).items() if target in TALKS]
    for row in source.rows:
        for column in columns:
            value = row.data.get(column)
            if isinstance(value, list):
                yield from ((row, turn) for turn in value if isinstance(turn, dict))


@check("DAT01", "error", "rows of different kinds", Stage.DATA)
def schema_of_first_row(context: "CheckContext") -> Iterator[Found]:
    """TRL decides by the first row whether the data are conversations or texts, and takes all others to be the same: a row of the other
    kind, an empty conversation, or a source with other columns stops the run or is trained as something else.

    Do: bring all rows into one form, or leave the others out.
    Known from: trl.data_utils.is_conversational(next(iter(dataset))), IndexError on `messages: []`.
    """
    for split in context.raw_splits:
        empty = [row for source in split.sources for row in source.rows if row.data.get((source.columns or {}).get("messages", "")) == []]
        if empty:
            yield Found(
                f"{share(len(empty), len(split.rows))} of dataset.{split.name} are empty conversations (messages: []), the first at "
                f"{line(empty[0])}: the run stops there. Leave them out",
                at(split, empty[0]),
                evidence(empty, len(split.rows)),
                leave_out(split, empty, "that are empty conversations"),
            )
        yield from _other_kinds(split)
        yield from _other_shapes(split)


def _other_kinds(split: "RawSplit") -> Iterator[Found]:
    kinds = [(row, {name: isinstance(example[name], list) for name in SHAPE if name in example}) for row, example in split.fit]
    if not kinds:
        return
    talk = next(iter(kinds[0][1].values()), False)
    others = [row for row, kind in kinds if any(found != talk for found in kind.values())]
    if not others:
        return
    words = ("conversations", "plain texts") if talk else ("plain texts", "conversations")
    yield Found(
        f"dataset.{split.name} begins with {words[0]}, but {share(len(others), len(split.rows))} are {words[1]} in whole or in part, the "
        f"first at {line(others[0])}: TRL treats all rows like the first one. Bring them into one form, or leave one kind out",
        at(split, others[0]),
        evidence(others, len(split.rows), first=words[0], others=words[1]),
        leave_out(split, others, f"that are {words[1]}"),
    )


def _other_shapes(split: "RawSplit") -> Iterator[Found]:
    shapes: dict[tuple[str, ...], RawRow] = {}
    for row, example in split.fit:
        shapes.setdefault(tuple(name for name in SHAPE if name in example), row)
    if len(shapes) > 1:
        words = [f"{'+'.join(shape)} ({line(row)})" for shape, row in shapes.items()]
        yield Found(
            f"the sources of dataset.{split.name} have rows of different shape: {', '.join(words)}; they cannot be mixed. Map the columns "
            "of all sources to the same targets",
            at(split, list(shapes.values())[1]),
            {"shapes": ["+".join(shape) for shape in shapes]},
        )


@check("DAT02", "error", "a field without a value", Stage.DATA)
def missing_field(context: "CheckContext") -> Iterator[Found]:
    """A row lacks a text that every row must have, or has null there: the run stops at it. A turn whose content is null is trained as an
    empty turn (a turn that calls tools may have none).

    Do: fill the field in, or leave these rows out.
    Known from: 'NoneType' object has no attribute 'endswith' (TRL's add_eos); datasets hides it behind its own schema.
    """
    for split in context.raw_splits:
        for source in split.sources:
            needed = [(target, column) for target, column in (source.columns or {}).items() if target not in OPTIONAL]
            for target, column in needed:
                if without := [row for row in source.rows if is_nothing(row.data.get(column))]:
                    yield Found(
                        f"{share(len(without), len(source.rows))} have nothing in {printable(repr(column))} ({target}), the first at "
                        f"{line(without[0])}: the run stops there. Fill it in, or leave these rows out",
                        at(split, without[0]),
                        evidence(without, len(source.rows), column=column),
                        leave_out(split, without, f"without {printable(column)}"),
                    )
            yield from _null_turns(split, source)


def _null_turns(split: "RawSplit", source: "RawSource") -> Iterator[Found]:
    null = [row for row, turn in turns_of(source) if turn.get("content", turn.get("value")) is None and not _says_otherwise(turn)]
    rows = list({row.row: row for row in null}.values())
    if rows:
        yield Found(
            f"{share(len(rows), len(source.rows))} have a turn whose content is null, the first at {line(rows[0])}: it is trained as an "
            "empty turn. Fill it in, or leave these rows out",
            at(split, rows[0]),
            evidence(rows, len(source.rows)),
            leave_out(split, rows, "with a turn without content"),
            "error" if len(rows) > 0.2 * len(source.rows) else "warning",
        )


def _says_otherwise(turn: dict[str, Any]) -> bool:
    """Whether a turn may rightly have no content."""
    return any(turn.get(name) for name in ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking"))


@check("DAT03", "error", "values that are no text", Stage.DATA)
def mixed_types(context: "CheckContext") -> Iterator[Found]:
    """A column of texts holds truth values, lists or objects: they make no training row, and the run refuses them. Numbers are harmless
    here: tuitune reads the file itself and trains on the digits as they stand, where `datasets` would make another type of the column.

    Do: --fix writes a copy in which truth values are the words true and false; a list or an object must be mended by hand or left out.
    Known from: datasets 5.2 (mixed types become a Json feature, a late list becomes the string '["x"]').
    """
    for split in context.raw_splits:
        for source in split.sources:
            for target, column in text_columns(source):
                yield from _no_texts(split, source, target, column)
            yield from _no_turns(split, source)
            yield from _contents(context, split, source)


def _no_texts(split: "RawSplit", source: "RawSource", target: str, column: str) -> Iterator[Found]:
    talk = target in TALKS
    cases: dict[str, list[RawRow]] = {}
    for row in source.rows:
        value = row.data.get(column)
        if isinstance(value, str) or is_nothing(value) or isinstance(value, date | time) or (talk and is_talk(value)):
            continue
        cases.setdefault(_kind(value), []).append(row)
    for kind, rows in cases.items():
        told = f"{share(len(rows), len(source.rows))} have {kind} in {printable(repr(column))}, the first at {line(rows[0])}"
        proof = evidence(rows, len(source.rows), column=column, kind=kind, example=printable(repr(rows[0].data[column]), limit=60))
        if kind == "a number":
            told += ": tuitune trains on the digits as they stand"
            yield Found(told, at(split, rows[0]), proof, severity="info")
        elif kind == "true or false":
            told += ", where text is needed: the run refuses them. Write them as words"
            fix = rewrite(split, rows, "Train on a copy of the data with true and false as words", "as-text", automatic=True)
            yield Found(told, at(split, rows[0]), proof, fix)
        else:
            told += ", where text is needed: the run refuses them. Make text of them, or leave these rows out"
            yield Found(told, at(split, rows[0]), proof, leave_out(split, rows, f"with {kind} in {printable(column)}"))


def _no_turns(split: "RawSplit", source: "RawSource") -> Iterator[Found]:
    column = (source.columns or {}).get("messages")
    if column is None:
        return
    wrong = [row for row in source.rows if row.data.get(column) not in (None, []) and not is_talk(row.data[column])]
    if wrong:
        value = wrong[0].data[column]
        kind = "a list whose items are no turns" if isinstance(value, list) else _kind(value)
        yield Found(
            f"{share(len(wrong), len(source.rows))} have {kind} in {printable(repr(column))} instead of a list of turns, the first at "
            f"{line(wrong[0])}: the run refuses them. Write them as a list of objects with role and content, or leave these rows out",
            at(split, wrong[0]),
            evidence(wrong, len(source.rows), column=column, kind=kind),
            leave_out(split, wrong, f"with {kind} for turns"),
        )


def _contents(context: "CheckContext", split: "RawSplit", source: "RawSource") -> Iterator[Found]:
    """Contents of turns that are numbers, or lists of parts that the template prints as they stand in Python."""
    cases: dict[str, dict[int, RawRow]] = {}
    for row, turn in turns_of(source):
        value = turn.get("content", turn.get("value"))
        if not isinstance(value, str) and value is not None:
            cases.setdefault("parts" if isinstance(value, list) else "value", {}).setdefault(row.row, row)
    if rows := list(cases.get("value", {}).values()):
        yield Found(
            f"{share(len(rows), len(source.rows))} have a turn whose content is no text, the first at {line(rows[0])}: templates that join "
            "or trim texts fail on it. Write it as text",
            at(split, rows[0]),
            evidence(rows, len(source.rows)),
            rewrite(split, rows, "Train on a copy of the data with contents as text", "as-text", automatic=True),
            "warning",
        )
    rows = list(cases.get("parts", {}).values())
    if rows and not KNOWS_PARTS.search(context.template_source):
        yield Found(
            f"{share(len(rows), len(source.rows))} have a turn whose content is a list of parts, the first at {line(rows[0])}; this "
            "chat template knows texts only and prints the list as it stands in Python. Write the parts as one text",
            at(split, rows[0]),
            evidence(rows, len(source.rows)),
        )


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    names = {"list": "a list", "dict": "an object", "str": "a text", "bytes": "bytes"}
    kind = type(value).__name__
    return names.get(kind, f"a {kind}")


@check("DAT04", "error", "points in time where text is needed", Stage.DATA)
def dates_as_timestamps(context: "CheckContext") -> Iterator[Found]:
    """A column of a parquet or Arrow file holds dates or timestamps, not texts: they make no training row. In JSON and CSV a date is text
    and stays text here; `datasets` would turn a whole column of them into timestamps ('2024-01-01 00:00:00').

    Do: --fix writes a copy with the dates as text (2024-01-01, or 2024-01-01 10:30:00 where there is a time of day).
    Known from: datasets#7664.
    """
    for split in context.raw_splits:
        for source in split.sources:
            for _, column in text_columns(source):
                values = [row.data.get(column) for row in source.rows]
                dated = [row for row, value in zip(source.rows, values) if isinstance(value, date | time)]
                if dated:
                    days = all(not isinstance(row.data[column], datetime) or row.data[column].time() == time() for row in dated)
                    yield Found(
                        f"{share(len(dated), len(source.rows))} have a point in time in {printable(repr(column))} "
                        f"({dated[0].data[column]}), the first at {line(dated[0])}, where text is needed: the run refuses them. "
                        "Write them as text",
                        at(split, dated[0]),
                        evidence(dated, len(source.rows), column=column, example=str(dated[0].data[column])),
                        rewrite(split, dated, "Train on a copy of the data with dates as text", "as-text", automatic=True, dates=days),
                    )
                elif source.kind in ("jsonl", "json") and all(isinstance(value, str) and DATE.fullmatch(value) for value in values):
                    yield Found(
                        f"column {printable(repr(column))} holds dates as text ({printable(str(values[0]), limit=40)}): "
                        "tuitune keeps them as they stand, where load_dataset would make timestamps of them",
                        at(split, source.rows[0]),
                        {"column": column, "example": values[0]},
                        severity="info",
                    )


@check("DAT05", "warning", "empty cells of a table", Stage.DATA)
def csv_cells(context: "CheckContext") -> Iterator[Found]:
    """A cell of a CSV file that says nothing, NA, None, null or nan mostly stands for a missing value; tuitune keeps what stands there,
    so the model would learn to say NA. Numbers and dates are kept as they are written (007 stays 007).

    Do: fill the cells in, or leave these rows out. Where the word is a class of its own, nothing is to be done.
    Known from: pandas and datasets read such cells as null (keep_default_na), and whole numeric columns as int64, on which TRL fails.
    """
    for split in context.raw_splits:
        for source in split.sources:
            if source.kind not in ("csv", "tsv") or not source.rows:
                continue
            for target, column in text_columns(source):
                if target not in OPTIONAL:
                    yield from _cells(split, source, column)


def _cells(split: "RawSplit", source: "RawSource", column: str) -> Iterator[Found]:
    values = [str(row.data.get(column, "")).strip() for row in source.rows]
    empty = [row for row, value in zip(source.rows, values) if value.lower() in EMPTY_CELLS]
    if empty:
        words = Counter(value for value in values if value.lower() in EMPTY_CELLS)
        shown = ", ".join(repr(word) if word else "nothing" for word in words)
        classes = "" not in words and len(set(values)) <= 50 and len(set(values)) < len(values) / 2
        yield Found(
            f"{share(len(empty), len(source.rows))} say {shown} in {printable(repr(column))}, the first at {line(empty[0])}, which mostly "
            "means that the value is missing: it is trained as it stands. Fill these cells in, or leave the rows out",
            at(split, empty[0]),
            evidence(empty, len(source.rows), column=column, cells=dict(words)),
            leave_out(split, empty, f"with an empty {printable(column)}"),
            "info" if classes else "warning",
        )
    elif all(DIGITS.fullmatch(value) for value in values):
        yield Found(
            f"column {printable(repr(column))} holds numbers only: tuitune trains on the digits as they are written, where load_dataset "
            "would make numbers of them",
            at(split, source.rows[0]),
            {"column": column, "example": values[0]},
            severity="info",
        )
