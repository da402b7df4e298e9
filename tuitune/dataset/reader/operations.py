"""What the reader can be asked. Every answer carries the file's `stamp`: another one than before means that the file was changed.

open       path                              format, size, columns, known, complete, problem, slow
count      path, known                       known, complete, problem: as soon as more than `known` rows are found, or all
rows       path, start, count                rows (cells.brief), from `start` on; fewer than asked when they are large
row        path, row, columns, room          data (cut to `room` characters), cut; made: the row as `columns` make it, or misfit: why not
search     path, start, text, regex, exact, backward      row (or null)
broken     path, start, backward                          row (or null)
duplicates path                              rows, count, pairs
overlap    path, other                       rows, count, pairs
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from tuitune.analyst.server import Operation, Progress
from tuitune.dataset.columns import convert, mapping_for
from tuitune.dataset.reader import scan
from tuitune.dataset.reader.cells import CELL, WHOLE, Bounded, brief
from tuitune.dataset.reader.files import open_rows
from tuitune.dataset.reader.row_file import Numbered, RowFile, stamp_of
from tuitune.dataset.reader.server import Going, Steps
from tuitune.dataset.sources import Broken, Row, no_rows, told_as_sentences
from tuitune.errors import UserError

OPEN_FILES = 6
SEEN = 50  # rows looked at for the columns
ROWS = 500  # of one answer at most
ANSWER = 1 << 20  # characters of cells in one answer
TELL_S = 0.5  # a count that goes on says so this often
SCAN_S = 3600.0


class Files:
    """The files that are open, the one used last at the end."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, RowFile] = OrderedDict()
        self._counts: dict[Path, Iterator[None]] = {}

    def at(self, path: str) -> RowFile:
        """The file as it is on disk now."""
        place = Path(path)
        file = self._open.get(place)
        with told_as_sentences(place):
            if file is not None and stamp_of(place) != file.stamp:
                self._forget(place)
                file = None
        if file is None:
            file = self._open[place] = open_rows(place)
            if not file.complete:
                self._counts[place] = file.count()
        self._open.move_to_end(place)
        if len(self._open) > OPEN_FILES:
            self._forget(next(iter(self._open)))
        return file

    def _forget(self, path: Path) -> None:
        self._counts.pop(path, None)
        self._open.pop(path).close()

    def count_on(self) -> bool:
        """A turn of counting rows; False when there is nothing to count."""
        for path, going in list(self._counts.items()):
            if next(going, self) is self:
                self._counts.pop(path, None)
        return bool(self._counts)


def steps(files: Files) -> dict[str, Steps]:
    """The requests that are answered in the process itself."""

    def open_file(path: str) -> Going:
        file = files.at(path)
        columns = dict.fromkeys(file.columns)
        seen = yield from _take(file, 0, SEEN)
        for _, item in seen:
            columns.update(dict.fromkeys(item.data if isinstance(item, Row) else ()))
        if not seen:
            while not file.complete:
                yield None
            raise UserError(file.problem) if file.problem else no_rows(file.path)
        kind = getattr(file, "kind", None) or Path(path).suffix[1:]
        return {**_state(file), "format": kind, "size": file.stamp[1], "columns": [str(name) for name in columns], "slow": file.slow}

    def count(path: str, known: int = -1) -> Going:
        until = time.monotonic() + TELL_S
        file = files.at(path)
        while not file.complete and (file.known <= known or time.monotonic() < until):
            yield None
        return _state(file)

    def rows(path: str, start: int, count: int, cell: int = CELL) -> Going:
        file = files.at(path)
        while start >= ROWS and not file.complete and file.known <= start:  # near the beginning nothing need be counted
            yield None
        found, room = [], ANSWER
        for row, item in (yield from _take(file, start, min(count, ROWS), ANSWER * 8)):
            found.append(brief(row, item, cell))
            room -= sum(len(text) for _, text, _ in found[-1].get("cells", ()))
            if room <= 0:
                break
        return {**_state(file), "rows": found}

    def row(path: str, row: int, columns: dict[str, str] | None = None, room: int = WHOLE) -> Going:
        file = files.at(path)
        while row >= ROWS and not file.complete and file.known <= row:
            yield None
        found = yield from _take(file, row, 1)
        if not found:
            raise UserError(f"there is no row {row + 1:,}; the file has {file.known:,}")
        return {**_state(file), "row": row, **_whole(found[0][1], columns, room)}

    return {"open": open_file, "count": count, "rows": rows, "row": row}


def _state(file: RowFile) -> dict[str, Any]:
    return {"stamp": list(file.stamp), "known": file.known, "complete": file.complete, "problem": file.problem}


def _take(file: RowFile, start: int, count: int, room: int = 1 << 62) -> Generator[None, None, list[Numbered]]:
    """Up to `count` rows from `start` on; no more once they hold `room` characters. One request at a time reads a file: the next one
    often wants what this one has just decoded."""
    while file.busy:
        yield None
    file.busy = True
    found: list[Numbered] = []
    reading = file.read(start)
    try:
        for numbered in reading:
            if numbered is None:
                yield None
                continue
            found.append(numbered)
            if isinstance(numbered[1], Row):
                room -= sum(len(value) for value in numbered[1].data.values() if isinstance(value, str))
            if len(found) >= count or room <= 0:
                break
    except UserError:
        if not found:  # else: the rows before the damage are served, and `problem` tells of it once they are counted
            raise
    finally:
        file.busy = False
        reading.close()
    return found


def _whole(item: Row | Broken, columns: dict[str, str] | None, room: int) -> dict[str, Any]:
    """A row as it is, and as the column mapping makes it."""
    if isinstance(item, Broken):
        return {"line": item.line, "error": str(item.error)}
    raw = Bounded(room)
    whole: dict[str, Any] = {"line": item.line, "data": raw.copy(item.data), "cut": raw.cut}
    try:
        mapping = mapping_for(item, columns)
        made = Bounded(room)
        whole |= {"mapping": mapping, "made": made.copy(convert(item, mapping)), "made_cut": made.cut}
    except UserError as error:
        whole["misfit"] = str(error)
    return whole


def scans(files: Files) -> dict[str, Operation]:
    """The requests that look at every row, each in a worker of its own."""

    def looked(find: Callable[..., int | None], progress: Progress, path: str, start: int, *how: Any) -> dict[str, Any]:
        file = files.at(path).fresh()
        return {"row": find(file, start, *how[:1], progress, *how[1:]), "stamp": list(file.stamp)}

    def search(
        progress: Progress, path: str, start: int, text: str, regex: bool = False, exact: bool = False, backward: bool = False
    ) -> dict[str, Any]:
        wanted, sieve = scan.search_for(text, regex=regex, exact=exact)
        return looked(scan.find_backward if backward else scan.find, progress, path, start, wanted, sieve)

    def broken(progress: Progress, path: str, start: int, backward: bool = False) -> dict[str, Any]:
        return looked(scan.find_backward if backward else scan.find, progress, path, start, scan.is_broken)

    def duplicates(progress: Progress, path: str) -> dict[str, Any]:
        return scan.duplicates(files.at(path).fresh(), progress)

    def overlap(progress: Progress, path: str, other: str) -> dict[str, Any]:
        return scan.overlap(files.at(path).fresh(), files.at(other).fresh(), progress)

    operations: dict[str, Callable[..., dict[str, Any]]] = {
        "search": search,
        "broken": broken,
        "duplicates": duplicates,
        "overlap": overlap,
    }
    return {name: Operation(run, SCAN_S) for name, run in operations.items()}
