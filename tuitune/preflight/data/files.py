"""Data files that cannot be read, or whose columns nobody knows (DAT06 to DAT08)."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuitune.dataset.sources import BadEncoding, open_text
from tuitune.preflight.data.column_names import likely_columns, nearest_column
from tuitune.preflight.data.common import SHOWN, leave_out_numbers
from tuitune.preflight.finding import Change, Fix, Found, Where
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext
    from tuitune.analyst.raw_rows import RawSource, RawSplit


@check("DAT06", "error", "bytes that are no text", Stage.DATA)
def encoding(context: "CheckContext") -> Iterator[Found]:
    """A byte of the file is not UTF-8, or a character is half of one: the file cannot be read from there on. Also an empty file, and
    names that one JSON object has twice (only the last value counts). A byte order mark is harmless.

    Do: convert the file (iconv); the message says which byte it is.
    Known from: UnicodeDecodeError only when the row is accessed, DatasetGenerationError, StopIteration (datasets 5.2).
    """
    for split in context.raw_splits:
        for source in split.sources:
            yield from _unreadable(split, source, encoding=True)
            if source.is_file and not source.rows and not source.broken and source.fault is None:
                yield Found(
                    f"{printable(source.path)} has no rows: nothing can be trained on it. Name a file that has some",
                    Where(source.path, split=split.name, view="dataset"),
                    {"file": source.path},
                )
            if source.kind == "jsonl":
                yield from _repeated_names(split, source)


def _repeated_names(split: "RawSplit", source: "RawSource") -> Iterator[Found]:
    repeated: dict[int, str] = {}

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            repeated[number] = next(name for name in names if names.count(name) > 1)
        return found

    decode = json.JSONDecoder(object_pairs_hook=note).decode
    last = max((row.line for row in source.rows), default=0)
    with open_text(Path(source.path)) as file:
        for number, raw in enumerate(file, 1):
            if number > last:
                break
            try:
                decode(raw.decode().strip())
            except (ValueError, RecursionError):  # told as a bad line
                continue
    if repeated:
        first, name = next(iter(repeated.items()))
        yield Found(
            f"{len(repeated):,} lines of {printable(source.path)} have a name twice in one object, the first is line {first} "
            f"({printable(repr(name))}): only the last value counts. Rename or remove one",
            Where(source.path, first, split=split.name, view="dataset"),
            {"file": source.path, "count": len(repeated), "lines": list(repeated)[:SHOWN], "name": name},
            severity="warning",
        )


@check("DAT07", "error", "a line that cannot be read", Stage.DATA)
def bad_line(context: "CheckContext") -> Iterator[Found]:
    """A line of the file is no JSON object, a record of a CSV file has too many cells, or the file is damaged: the run stops there.

    Do: mend the line; the message says which one and where in it. Or leave these lines out.
    Known from: json.JSONDecodeError, which datasets hides in __cause__.
    """
    for split in context.raw_splits:
        for source in split.sources:
            yield from _unreadable(split, source, encoding=False)


def _unreadable(split: "RawSplit", source: "RawSource", *, encoding: bool) -> Iterator[Found]:
    if source.fault is not None and isinstance(source.fault, BadEncoding) is encoding:
        text = str(source.fault)
        yield Found(text, Where(source.path, _line_in(text, source.path), split=split.name, view="dataset"), {"file": source.path})
    broken = [(number, item) for number, item in source.broken if isinstance(item.error, BadEncoding) is encoding]
    if not broken:
        return
    first = broken[0][1]
    more = f" ({len(broken):,} lines in all)" if len(broken) > 1 else ""
    yield Found(
        f"{first.error}{more}",
        Where(first.file, first.line, split=split.name, view="dataset"),
        {"file": first.file, "count": len(broken), "lines": [item.line for _, item in broken[:SHOWN]]},
        leave_out_numbers(split, ((source.index, number) for number, _ in broken), "that cannot be read"),
    )


def _line_in(text: str, path: str) -> int | None:
    """The line that a message about a whole file names."""
    number = text.removeprefix(f"{printable(path)}:").partition(":")[0]
    return int(number) if number.isdigit() else None


@check("DAT08", "error", "columns that make no training row", Stage.DATA)
def column_names(context: "CheckContext") -> Iterator[Found]:
    """The names of the columns do not say what they are for, `columns:` names one that is not there, or they are not what the task trains
    on (dpo and reward need chosen and rejected, kto needs a label).

    Do: say it in `columns:` of that source (target: source); where the names are near enough to known ones --fix writes it.
    Known from: KeyError 'text' (TRL's default dataset_text_field).
    """
    for split in context.raw_splits:
        for source in split.sources:
            if source.rows and source.missing:
                yield from _missing(context, split, source)
            elif source.rows and source.columns is None and "input_ids" not in source.names:
                yield _unknown(context, split, source)
            elif source.columns is not None:
                yield from _for_another_task(context, split, source)


def _missing(context: "CheckContext", split: "RawSplit", source: "RawSource") -> Iterator[Found]:
    for target, column in source.missing.items():
        near = nearest_column(column, target, [name for name in source.names if name not in source.written["columns"].values()])
        where = ("dataset", split.name, source.index, "columns", target)
        hint = f": is {printable(repr(near))} meant?" if near else f"; it has {_listed(source.names)}. Correct `columns` of that source"
        yield Found(
            f"no row of {printable(source.path)} has a column {printable(repr(column))} ({target}){hint}",
            context.at(*where),
            {"file": source.path, "column": column, "target": target, "columns": source.names[:20]},
            Fix(f"Take {printable(repr(near))} as {target}", automatic=True, changes=(Change(where, near),)) if near else None,
        )


def _unknown(context: "CheckContext", split: "RawSplit", source: "RawSource") -> Found:
    likely = likely_columns(source.names, context.recipe.task, source.rows[0].data)
    where = ("dataset", split.name, source.index)
    hint = ", ".join(f"{target}: {printable(column)}" for target, column in (likely or {}).items())
    meant = f"probably {{{hint}}}" if likely else "e.g. {user: QUESTION_COLUMN, assistant: ANSWER_COLUMN}"
    return Found(
        f"{printable(source.path)} has the columns {_listed(source.names)}, which do not say what they are for: say it in "
        f"`columns` of that source, {meant}",
        context.at(*where),
        {"file": source.path, "columns": source.names[:20], "likely": likely},
        Fix(f"Write columns: {{{hint}}}", automatic=True, changes=(Change((*where, "columns"), likely),)) if likely else None,
    )


def _for_another_task(context: "CheckContext", split: "RawSplit", source: "RawSource") -> Iterator[Found]:
    method, task = context.method, context.recipe.task
    targets, where = set(source.columns or ()), ("dataset", split.name, source.index)
    shape = _shape(targets)
    proof = {"file": source.path, "task": task, "shape": shape, "columns": source.names[:20]}
    if shape not in method.shapes:
        likely = likely_columns(source.names, task, source.rows[0].data) if source.rows else None
        fits = likely is not None and _shape(set(likely)) in method.shapes
        fix = Fix(f"Write columns: {likely}", changes=(Change((*where, "columns"), likely),)) if fits else None
        yield Found(
            f"task {task} trains on {' or '.join(method.shapes)} rows; the columns of {printable(source.path)} make {shape} rows. "
            "Correct `columns` of that source, or `task`",
            context.at(*where),
            proof,
            fix,
        )
    for column in method.needs:
        if without := [row for row in source.rows if row.example is not None and column not in row.example]:
            fix = Fix(f"Write {column}: {column}", automatic=True, changes=(Change((*where, "columns", column), column),))
            yield Found(
                f"task {task} needs a `{column}` in every row; {len(without):,} rows of {printable(source.path)} have none. Say which "
                f"column it is, e.g. {column}: {column}",
                context.at(*where),
                {**proof, "column": column, "count": len(without)},
                fix if column in source.names and column not in targets and source.written.get("columns") else None,
            )


def _shape(targets: set[str]) -> str:
    """What Split.format calls the rows of these targets."""
    if "messages" in targets:
        return "messages"
    if {"chosen", "rejected"} & targets:
        return "preference"
    if targets & {"assistant", "completion"}:
        return "prompt-completion"
    return "prompt" if targets & {"user", "prompt"} else "text"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(printable(name, limit=40) for name in names[:8]) + more
