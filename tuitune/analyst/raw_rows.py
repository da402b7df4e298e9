"""The rows of a split as they stand in their files, broken and unfit ones among them, each with where it is in file and split."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from tuitune.analyst.conversation import Turns, conversations
from tuitune.dataset.columns import OPTIONAL, PASSED_ON, convert, guess_columns
from tuitune.dataset.load import rows_of, weighted
from tuitune.dataset.sources import Broken, Row, checked_format, data_format, read_each, told_as_sentences
from tuitune.errors import UserError
from tuitune.recipe.recipe import Recipe


@dataclass
class RawRow:
    """`number`: in its file, from 0, broken ones counted; `row`: in the split (where a weight repeats it: the first of them); `data`:
    the file's columns; `example`: what TRL gets, None for a row that does not fit."""

    source: int
    number: int
    row: int
    file: str
    line: int
    data: dict[str, Any]
    example: dict[str, Any] | None = None

    @cached_property
    def talks(self) -> list[tuple[str, Turns]]:
        """(name, turns) of every conversation of the row; none for plain text, and for a row that does not fit."""
        return list(conversations(self.example)) if self.example else []

    @cached_property
    def content(self) -> str:
        """What the row says, without roles."""
        if self.talks:
            said = (turn.get("content") for _, turns in self.talks for turn in turns)
        else:
            said = ((self.example or {}).get(name) for name in ("prompt", "completion", "text", "chosen", "rejected"))
        return "\n".join(text for text in said if isinstance(text, str))


@dataclass
class RawSource:
    """One source of a split. `written`: its entry in the recipe; `columns`: target → source, None when nobody knows what its columns are;
    `missing`: sources of the recipe's columns that no row has; `broken`: number and fault of rows that cannot be read; `fault`: why the
    file as a whole cannot be read."""

    index: int
    path: str
    written: Mapping[str, Any]
    is_file: bool
    columns: dict[str, str] | None = None
    missing: dict[str, str] = field(default_factory=dict)
    rows: list[RawRow] = field(default_factory=list)
    broken: list[tuple[int, Broken]] = field(default_factory=list)
    fault: UserError | None = None

    @property
    def names(self) -> list[str]:
        """The columns of the file, in the order in which they come."""
        return list(dict.fromkeys(name for row in self.rows for name in row.data))

    @property
    def kind(self) -> str:
        """jsonl, csv …; "" for a data set of the Hub."""
        return data_format(Path(self.path)) or "" if self.is_file else ""


@dataclass
class RawSplit:
    """All sources of dataset.<name>."""

    name: str
    sources: list[RawSource]

    @cached_property
    def rows(self) -> list[RawRow]:
        """The rows of all sources, each once."""
        return [row for source in self.sources for row in source.rows]

    @cached_property
    def fit(self) -> list[tuple[RawRow, dict[str, Any]]]:
        """Those that can be trained on, with what TRL gets."""
        return [(row, row.example) for row in self.rows if row.example is not None]

    @cached_property
    def copies(self) -> dict[int, tuple[RawRow, RawRow]]:
        """Number in `fit` of a row that is the same as one before but for white space → (it, the first of its kind). Rows that a weight
        repeats are one row."""
        first: dict[str, RawRow] = {}
        found = {}
        for number, (row, example) in enumerate(self.fit):
            said = [(turn.get("role"), turn.get("tool_calls")) for _, turns in row.talks for turn in turns]
            key = f"{' '.join(row.content.split())}\x1f{said}{[example.get(name) for name in PASSED_ON]}"
            before = first.setdefault(key, row)
            if before is not row:
                found[number] = (row, before)
        return found


def raw_split(recipe: Recipe, name: str) -> RawSplit:
    """Read the sources of dataset.<name>. UserError when a file is not there or may not be read."""
    offset, sources = 0, []
    for index, entry in enumerate(recipe.dataset.get(name) or ()):
        source, used = _read(index, entry, name, offset)
        offset += used
        _map(source)
        sources.append(source)
    return RawSplit(name, sources)


def _read(index: int, entry: Mapping[str, Any], split: str, offset: int) -> tuple[RawSource, int]:
    """A source with its rows, and how many rows of the split they are."""
    path = Path(str(entry["path"]))
    source = RawSource(index, str(path), entry, path.is_absolute() or data_format(path) is not None)
    items: list[tuple[int, Row | Broken]] = []
    if source.is_file:
        checked_format(path)
        with told_as_sentences(path):
            path.open("rb").close()
    rows: Iterator[Row | Broken] = read_each(path) if source.is_file else rows_of(entry, split)
    try:
        for numbered in islice(enumerate(rows), entry.get("max_rows")):
            items.append(numbered)
    except UserError as error:
        if not source.is_file:
            raise
        source.fault = error
    used = list(weighted(iter(items), float(entry.get("weight") or 1.0)))
    seen: set[int] = set()
    for row, (number, item) in enumerate(used, offset):
        if number in seen:
            continue
        seen.add(number)
        if isinstance(item, Broken):
            source.broken.append((number, item))
        else:
            source.rows.append(RawRow(index, number, row, item.file, item.line, item.data))
    return source, len(used)


def _map(source: RawSource) -> None:
    """Find what the columns are for, and bring every row into TRL's shape that fits."""
    if not source.rows:
        return
    wanted = source.written.get("columns")
    if wanted:
        unseen = set(wanted.values()) - set(source.names)
        source.missing = {target: column for target, column in wanted.items() if column in unseen}
        source.columns = None if any(target not in OPTIONAL for target in source.missing) else dict(wanted)
    else:
        source.columns = guess_columns(source.rows[0].data) or guess_columns(source.names)
    if source.columns is None:
        return
    for row, example in zip(source.rows, _converted(source.rows, source.columns)):
        row.example = example


def _converted(rows: list[RawRow], columns: dict[str, str]) -> Iterator[dict[str, Any] | None]:
    for row in rows:
        try:
            yield convert(Row(row.data, row.file, row.line), columns)
        except UserError:
            yield None
