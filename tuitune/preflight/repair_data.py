"""Repaired copies of data files: written beside the source, with a report of every row that was left out or changed. Originals stay."""

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from filecmp import cmp
from pathlib import Path
from typing import IO, Any

from tuitune.dataset.columns import mapping_for
from tuitune.dataset.sources import PACKED, Broken, Row, data_format, read_each
from tuitune.errors import UserError
from tuitune.files import write_atomically
from tuitune.preflight.data_steps import STEPS, columns_after
from tuitune.preflight.finding import Change, DataCopy, Fix
from tuitune.recipe.document import parse
from tuitune.recipe.recipe import from_document
from tuitune.text import printable

MOST_COPIES = 100  # train.fixed.jsonl, train.fixed-2.jsonl, …


@dataclass
class Copied:
    """`file` of the copy, `report` beside it, `changes` of the recipe that go with it."""

    file: Path
    report: Path
    changes: list[Change]


@dataclass
class _Wanted:
    """All that the fixes want done to one source."""

    drop: dict[int, list[str]] = field(default_factory=dict)  # row → titles of the fixes that leave it out
    steps: dict[str, None] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    titles: dict[str, None] = field(default_factory=dict)

    def add(self, fix: Fix, copy: DataCopy) -> None:
        self.titles[fix.title] = None
        self.steps.update(dict.fromkeys(copy.steps))
        self.options.update(copy.options)
        for row in copy.drop:
            self.drop.setdefault(row, []).append(fix.title)


def copy_sources(recipe: Path, text: str, fixes: Iterable[Fix]) -> list[Copied]:
    """Make the copies that fixes of a recipe (its `text`) ask for, one for each source. UserError when one cannot be made."""
    wanted: dict[tuple[str, int], _Wanted] = defaultdict(_Wanted)
    for fix in fixes:
        for copy in fix.copies:
            wanted[copy.split, copy.source].add(fix, copy)
    if not wanted:
        return []
    dataset = from_document(parse(text, recipe), recipe, recipe.parent).dataset
    written = parse(text, recipe).data["dataset"]
    return [_copy(place, dataset[place[0]][place[1]], written[place[0]][place[1]], orders) for place, orders in wanted.items()]


def _copy(place: tuple[str, int], source: dict[str, Any], written: dict[str, Any], wanted: _Wanted) -> Copied:
    path = Path(str(source["path"]))
    shown = printable(str(path))
    if data_format(path) is None:
        raise UserError(f"{shown} is no data file on this box, so no repaired copy of it can be made; download it and name the file")
    if unknown := [name for name in wanted.steps if name not in STEPS]:
        raise UserError(f"there is no step {unknown[0]!r} for data; there are {', '.join(STEPS)}")
    report: dict[str, Any] = {
        "source": str(path),
        "copy": "",
        "fixes": list(wanted.titles),
        "rows": 0,
        "kept": 0,
        "dropped": [],
        "changed": [],
    }
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                columns = _write(file, path, source.get("columns"), wanted, report)
            if not report["kept"]:
                raise UserError(f"nothing would be left of {shown}: all {report['rows']} rows have the fault; mend the data itself")
            os.chmod(temporary, path.stat().st_mode & 0o666)
            copied = _placed(Path(temporary), path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        report["copy"] = str(copied)
        beside = copied.with_suffix(".report.json")
        write_atomically(beside, json.dumps(report, ensure_ascii=False, indent=1))
    except OSError as error:
        reason = f"{error.strerror or error}; copy the data to a folder that you may write, and name it in the recipe"
        raise UserError(f"no repaired copy of {shown} can be written beside it ({reason})") from error
    return Copied(copied, beside, _changes(place, source, written, columns, wanted, copied.name))


def _changes(
    place: tuple[str, int], source: dict[str, Any], written: dict[str, Any], columns: dict[str, str], wanted: _Wanted, name: str
) -> list[Change]:
    """What the recipe must say for the copy to be used, and for the same rows of it to be used."""
    path = ("dataset", *place)
    changes = [Change((*path, "path"), str(Path(written["path"]).with_name(name)))]
    most = source.get("max_rows")
    if most is not None and (gone := sum(row < most for row in wanted.drop)):
        changes.append(Change((*path, "max_rows"), most - gone))
    if after := columns_after(columns, tuple(wanted.steps), written=bool(source.get("columns"))):
        changes.append(Change((*path, "columns"), after))
    return changes


def _write(file: IO[str], path: Path, columns: dict[str, str] | None, wanted: _Wanted, report: dict[str, Any]) -> dict[str, str]:
    """The copy's rows into `file`, what was done into `report`; returns what the columns are for."""
    steps = [(name, STEPS[name]) for name in STEPS if name in wanted.steps]
    mapping: dict[str, str] | None = None
    for number, item in enumerate(read_each(path)):
        report["rows"] += 1
        if number in wanted.drop:
            report["dropped"].append({"row": number, "line": item.line, "why": wanted.drop[number]})
            continue
        if isinstance(item, Broken):
            raise item.error
        mapping = mapping or mapping_for(item, columns)
        rows, taken = [item.data], []
        for name, step in steps:
            after = [made for row in rows for made in step(row, mapping, wanted.options)]
            if after != rows:
                taken.append(name)
            rows = after
        if taken:
            report["changed"].append({"row": number, "line": item.line, "steps": taken})
        report["kept"] += len(rows)
        file.writelines(_line(row, item) for row in rows)
    return mapping or {}


def _line(data: dict[str, Any], row: Row) -> str:
    try:
        return json.dumps(data, ensure_ascii=False, default=_plain) + "\n"
    except (TypeError, ValueError) as error:
        reason = printable(str(error), limit=120)
        raise UserError(f"{printable(row.file)}:{row.line}: this row cannot be written as JSON ({reason}); take that column out") from error


def _plain(value: Any) -> Any:
    if isinstance(value, date):  # and datetime, which is one
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__}")


def _placed(temporary: Path, source: Path) -> Path:
    """The copy under its name: the first that is free, or that has the same content already."""
    for path in _names(source):
        if not path.exists():
            temporary.replace(path)
            return path
        if cmp(temporary, path, shallow=False):
            return path
    raise UserError(f"{printable(str(source))} has {MOST_COPIES} repaired copies beside it; remove those that are no longer used")


def _names(source: Path) -> Iterator[Path]:
    stem = source.with_suffix("").stem if source.suffix in PACKED else source.stem
    stem = stem.partition(".fixed")[0]
    for number in range(1, MOST_COPIES + 1):
        yield source.with_name(f"{stem}.fixed{f'-{number}' if number > 1 else ''}.jsonl")
