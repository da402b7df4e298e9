"""Rows of jsonl and CSV files, packed or not, by a sparse index of byte offsets that grows while the first rows are already read."""

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from tuitune.dataset.reader.row_file import LONGEST, Reading, RowFile, Sieve, Turn, too_long
from tuitune.dataset.sources import PACKED, Broken, CsvRecords, Row, data_format, jsonl_row, open_text, told_as_sentences
from tuitune.errors import UserError

ROWS_APART, BYTES_APART = 1024, 1 << 20  # whichever comes first
LOOK = 64  # lines between two looks at the clock
LARGE = 16 << 10  # bytes of a line that is worth a look by itself
PIECE = 1 << 20


class Place(NamedTuple):
    """Where a row begins: row from 0, line from 1, bytes from 0."""

    row: int
    line: int
    offset: int


class Index:
    """The places of some rows, in order."""

    def __init__(self, first: Place) -> None:
        self._rows, self._lines, self._offsets = array("Q", [first.row]), array("Q", [first.line]), array("Q", [first.offset])

    def offer(self, place: Place) -> None:
        """Keep a place when it is far enough from the last one."""
        if place.row - self._rows[-1] >= ROWS_APART or (place.offset - self._offsets[-1] >= BYTES_APART and place.row > self._rows[-1]):
            self._rows.append(place.row)
            self._lines.append(place.line)
            self._offsets.append(place.offset)

    def before(self, row: int) -> Place:
        """The last place kept at or before a row."""
        at = bisect_right(self._rows, row) - 1
        return Place(self._rows[at], self._lines[at], self._offsets[at])


class _Lines:
    """Lines of an open file from a place on, at most LONGEST bytes at a time."""

    def __init__(self, file: IO[bytes], place: Place) -> None:
        self.file = file
        self.line, self.offset = place.line, place.offset  # of what is read next

    def read(self) -> tuple[bytes, int]:
        """(the next line, its size); a line that is too long is cut. (b"", 0) at the end."""
        raw = self.file.readline(LONGEST)
        size = len(raw)
        if size == LONGEST and not raw.endswith(b"\n"):
            raw = raw[:1]
            while piece := self.file.readline(PIECE):
                size += len(piece)
                if piece.endswith(b"\n"):
                    break
        self.line += 1
        self.offset += size
        return raw, size


class TextFile(RowFile):
    """jsonl or CSV by the file's name; `kind` overrides it."""

    def __init__(self, path: Path, kind: str | None = None) -> None:
        super().__init__(path)
        self.kind = kind or data_format(path)
        self.packed = path.suffix in PACKED
        self.slow = f"a jump back unpacks the {path.suffix[1:]} file from its beginning" if self.packed else ""
        self._parked: tuple[IO[bytes], int] | None = None  # a packed file that is open at an offset
        self._header: list[str] | None = None
        start = Place(0, 1, 0)
        if self.kind != "jsonl":
            with told_as_sentences(path), open_text(path) as file:
                records = CsvRecords(file, path, longest=LONGEST)
                self._header = records.header()
                start = Place(0, records.next_line, records.next_offset)
        self._index = Index(start)

    @property
    def columns(self) -> list[str]:
        return self._header or []

    def count(self) -> Iterator[None]:
        place = self._index.before(0)
        try:
            with told_as_sentences(self.path):
                yield from self._count_lines(place) if self.kind == "jsonl" else self._count_records(place)
        except UserError as error:
            self.problem = str(error)
        self.complete = True

    def _count_lines(self, place: Place) -> Iterator[None]:
        turn = Turn()
        row, line, offset = place
        try:
            with open_text(self.path) as file:
                readline, offer = file.readline, self._index.offer
                while raw := readline(LONGEST):
                    size = len(raw)
                    if size == LONGEST and not raw.endswith(b"\n"):
                        for piece in iter(partial(readline, PIECE), b""):
                            size += len(piece)
                            if turn.over():
                                yield None
                            if piece.endswith(b"\n"):
                                break
                    if not raw.isspace():
                        if row % LOOK == 0 or size > LARGE:
                            offer(Place(row, line, offset))
                        row += 1
                    line += 1
                    offset += size
                    if (line % LOOK == 0 or size > LARGE) and turn.over():
                        self.known = row
                        yield None
        finally:
            self.known = row

    def _count_records(self, place: Place) -> Iterator[None]:
        turn = Turn()
        for now, _ in self._records(place):
            if now is None:
                continue
            self._index.offer(now)
            self.known = now.row + 1
            if turn.over():
                yield None

    def _records(self, place: Place) -> Iterator[tuple[Place | None, Row | Broken | None]]:
        """CSV rows from a place on; (None, None) while a packed file is unpacked."""
        if self._header is None:
            return
        for file in self._opened(place.offset):
            if file is None:
                yield None, None
                continue
            records = CsvRecords(iter(partial(file.readline, LONGEST), b""), self.path, place.line, place.offset, LONGEST)
            try:
                for row, item in enumerate(records.rows(self._header), place.row):
                    yield Place(row, records.line, records.offset), item
            finally:
                self._park(file, records.next_offset)

    def read(self, start: int, sieve: Sieve | None = None) -> Reading:
        place = self._index.before(start)
        turn = Turn()
        with told_as_sentences(self.path):
            for row, item in self._jsonl(place, start, sieve) if self.kind == "jsonl" else self._csv(place):
                if row >= start and item is not None:
                    yield row, item
                elif turn.over():
                    yield None

    def _csv(self, place: Place) -> Iterator[tuple[int, Row | Broken | None]]:
        for now, item in self._records(place):
            yield (-1, None) if now is None else (now.row, item)

    def _jsonl(self, place: Place, start: int, sieve: Sieve | None) -> Iterator[tuple[int, Row | Broken | None]]:
        row = place.row
        for file in self._opened(place.offset):
            if file is None:
                yield -1, None
                continue
            lines = _Lines(file, place)
            try:
                while True:
                    line, offset = lines.line, lines.offset
                    raw, size = lines.read()
                    if not raw:
                        return
                    if raw.isspace():
                        continue
                    looked_at = row >= start and (sieve is None or sieve(raw))
                    yield row, self._parsed(raw, size, line, offset) if looked_at else None
                    row += 1
            finally:
                self._park(file, lines.offset)

    def _parsed(self, raw: bytes, size: int, line: int, offset: int) -> Row | Broken:
        if size > len(raw):
            return too_long(self.path, line, size)
        try:
            return jsonl_row(raw, self.path, line, offset)
        except UserError as error:
            return Broken(error, str(self.path), line)

    def _opened(self, offset: int) -> Iterator[IO[bytes] | None]:
        """The file open at an offset, after a None for every turn that it takes to get there."""
        parked, self._parked = self._parked, None
        if parked is not None and (parked[1] <= offset or not self.packed):
            file, at = parked
        else:
            if parked is not None:
                parked[0].close()
            file, at = open_text(self.path), 0
        if not self.packed:
            file.seek(offset)
        else:
            turn = Turn()
            while at < offset:
                at += len(file.read(min(PIECE, offset - at)))
                if turn.over():
                    yield None
        yield file

    def _park(self, file: IO[bytes], offset: int) -> None:
        if self._parked is not None:
            self._parked[0].close()
        self._parked = file, offset

    def reopen(self) -> None:
        self._parked = None

    def close(self) -> None:
        if self._parked is not None:
            self._parked[0].close()
            self._parked = None
