"""Rows of a .json file: the elements of its list, found one after the other so that a list of any size can be opened."""

import codecs
import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tuitune.dataset.reader.row_file import LONGEST, Reading, RowFile, Sieve, Turn
from tuitune.dataset.reader.text_file import TextFile
from tuitune.dataset.sources import is_object, json_list, json_row, open_text, told_as_sentences
from tuitune.errors import UserError
from tuitune.text import printable

PIECE = 256 << 10
WHOLE = 32 << 20  # bytes of a document that is one object with the list in it: read whole
BLANKS = " \t\r\n"


def open_json(path: Path) -> RowFile:
    """A list, an object that holds one, or one object a line."""
    with told_as_sentences(path), open_text(path) as file:
        head = file.read(PIECE)
        while head and not head.strip():
            head = file.read(PIECE)
        if not head.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"{"):
            return JsonList(path)
        line = head.lstrip() + (b"" if b"\n" in head.lstrip() else file.readline(LONGEST))
        first, _, rest = line.partition(b"\n")
        more = rest.strip() or any(piece.strip() for piece in iter(lambda: file.read(PIECE), b""))
    if more and is_object(first.decode("utf-8", "replace").lstrip("\ufeff")):
        return TextFile(path, "jsonl")
    return WrappedList(path)


class WrappedList(RowFile):
    """One object that holds one list; kept in memory."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with told_as_sentences(path), open_text(path) as file:
            raw = file.read(WHOLE + 1)
        if len(raw) > WHOLE:
            raise UserError(
                f"{printable(str(path))} is one JSON object of more than {WHOLE >> 20} MiB; make it one object a line, "
                "e.g. jq -c '.data[]' old.json > new.jsonl"
            )
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{printable(str(path))}: byte {error.start} is not UTF-8; write the file again as UTF-8") from error
        self._values = json_list(text, path)
        self.known, self.complete = len(self._values), True

    def read(self, start: int, sieve: Sieve | None = None) -> Reading:
        for row in range(start, self.known):
            yield row, json_row(self._values[row], self.path, row + 1)


class JsonList(RowFile):
    """A list of objects. An element that is no JSON ends it: nobody can say where the next one begins."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._places = array("Q")  # byte offset of every element
        self.slow = f"a jump back unpacks the {path.suffix[1:]} file from its beginning" if path.suffix in (".gz", ".zst") else ""

    def count(self) -> Iterator[None]:
        turn = Turn()
        self._places = array("Q")
        try:
            with told_as_sentences(self.path), open_text(self.path) as file:
                for offset, _ in _elements(file, self.path, 0, 1):
                    self._places.append(offset)
                    self.known = len(self._places)
                    if turn.over():
                        yield None
        except UserError as error:
            self.problem = str(error)
        self.complete = True

    def read(self, start: int, sieve: Sieve | None = None) -> Reading:
        nearest = min(start, len(self._places) - 1)
        turn = Turn()
        with told_as_sentences(self.path), open_text(self.path) as file:
            first = max(0, nearest)
            for row, (_, value) in enumerate(_elements(file, self.path, self._places[first] if nearest >= 0 else 0, first + 1), first):
                if row >= start:
                    yield row, json_row(value, self.path, row + 1)
                elif turn.over():
                    yield None


def _elements(file: IO[bytes], path: Path, offset: int, number: int) -> Iterator[tuple[int, Any]]:
    """(byte offset, value) of the elements of a list, from the offset of the element `number` (from 1) on. UserError where it is broken."""
    _skip(file, offset)
    text = _Text(file, path, offset)
    if offset == 0:
        text.skip(BLANKS + "\ufeff")
        if text.peek() != "[":
            raise UserError(f"{printable(str(path))}: rows are expected as a list of objects, or as jsonl (one a line)")
        text.skip_one()
    decode = json.JSONDecoder().raw_decode
    while True:
        text.skip(BLANKS + ",")
        if text.peek() == "]":
            return
        at = text.offset
        try:
            value = text.value(decode)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else printable(str(error), limit=100)
            raise UserError(f"{printable(str(path))}: row {number} is not JSON ({reason}); the rows from there on cannot be read") from None
        yield at, value
        number += 1


def _skip(file: IO[bytes], offset: int) -> None:
    if file.seekable():
        file.seek(offset)
        return
    while offset and (piece := file.read(min(PIECE, offset))):
        offset -= len(piece)


class _Text:
    """The text of a file from a byte offset on, as much of it as is being looked at."""

    def __init__(self, file: IO[bytes], path: Path, offset: int) -> None:
        self._file, self._path = file, path
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._ended = "", 0, False
        self._offset, self._counted = offset, 0  # bytes before the character at `_counted`

    @property
    def offset(self) -> int:
        """Bytes before what is looked at."""
        passed = self._text[self._counted : self._at]
        self._offset += len(passed) if passed.isascii() else len(passed.encode())
        self._counted = self._at
        return self._offset

    def _more(self, size: int) -> None:
        at = self.offset
        self._text, self._at, self._counted = self._text[self._at :], 0, 0
        raw = self._file.read(size)
        self._ended = not raw
        try:
            self._text += self._decoder.decode(raw, final=self._ended)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise UserError(
                f"{printable(str(self._path))}: a byte after {at} (0x{byte:02x}) is not UTF-8; convert the file, "
                "e.g. iconv -f WINDOWS-1252 -t UTF-8"
            ) from None

    def peek(self) -> str:
        """The next character, "" at the end."""
        while self._at >= len(self._text) and not self._ended:
            self._more(PIECE)
        return self._text[self._at : self._at + 1]

    def skip_one(self) -> None:
        """Past one character."""
        self._at += 1

    def skip(self, characters: str) -> None:
        """Past all that are among `characters`."""
        while (next_one := self.peek()) and next_one in characters:
            self._at += 1

    def value(self, decode: Any) -> Any:
        """The JSON value that begins here; ValueError when there is none."""
        size = PIECE
        while True:
            try:
                value, end = decode(self._text, self._at)
                if end < len(self._text) or self._ended or isinstance(value, dict | list):
                    self._at = end
                    return value
            except json.JSONDecodeError:
                if self._ended or len(self._text) > LONGEST:
                    raise
            self._more(size)
            size = min(size * 2, LONGEST)
