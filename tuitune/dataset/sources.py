"""Read data files row by row, each row with the file and line it came from.

Parsed here and not by `datasets`, whose type guessing turns mixed columns into something else (dates, JSON strings) and reports a bad
byte without its place. Rows come out as written: a ten-million-character row or a control character is data like any other.
"""

import codecs
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from tuitune.errors import UserError
from tuitune.text import printable

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
PACKED = (".gz", ".zst")


@dataclass(frozen=True)
class Row:
    """One row as it stands in the file; `line` counts from 1: the line of a text file, the row of a parquet or Arrow file."""

    data: dict[str, Any]
    file: str
    line: int


class BadEncoding(UserError):
    """Bytes that are not UTF-8, or half of a character."""


@dataclass(frozen=True)
class Broken:
    """A row that cannot be read; `error` is the sentence that says where and what to do."""

    error: UserError
    file: str
    line: int


def is_data_file(path: Path) -> bool:
    """Whether the name says that `read_rows` understands it."""
    return data_format(path) is not None


def data_format(path: Path) -> str | None:
    """The format by the name's ending, for text with .gz or .zst behind it or not; None for anything else."""
    packed = path.suffix in PACKED
    kind = FORMATS.get((path.with_suffix("") if packed else path).suffix.lower())
    return None if packed and kind in ("parquet", "arrow") else kind


def read_rows(path: Path, limit: int | None = None) -> Iterator[Row]:
    """The rows of a data file, at most `limit` of them. UserError says file, line and remedy for whatever is wrong."""
    found = 0
    for row in read_each(path):
        if limit is not None and found >= limit:
            return
        if isinstance(row, Broken):
            raise row.error
        found += 1
        yield row
    if not found:
        raise no_rows(path)


def read_each(path: Path) -> Iterator[Row | Broken]:
    """The rows of a data file, those that cannot be read among them. UserError when the file as a whole cannot be read."""
    kind = checked_format(path)
    reader = {"jsonl": _jsonl, "json": _json, "csv": _csv, "tsv": _csv, "parquet": _parquet, "arrow": _arrow}[kind]
    with told_as_sentences(path):
        if kind not in ("parquet", "arrow"):
            _refuse_utf16(path)
        yield from reader(path)


def _refuse_utf16(path: Path) -> None:
    with open_text(path) as file:
        start = file.read(2)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise BadEncoding(
            f"{printable(str(path))}:1: byte 0 (0x{start[0]:02x}) is not UTF-8, the file is UTF-16; convert it, iconv -f UTF-16 -t UTF-8"
        )


def checked_format(path: Path) -> str:
    """The format of a file that is there and can be read as rows; UserError for anything else."""
    kind = data_format(path)
    where = printable(str(path))
    if path.is_dir():
        raise UserError(f"{where} is a folder; name the data file in it")
    if path.exists() and not path.is_file():
        raise UserError(f"{where} is no regular file (a pipe or a device); name a data file")
    if kind is None and not path.exists():
        raise UserError(_missing(where))
    if kind is None:
        raise UserError(
            f"{where}: the ending says no format tuitune reads; use one of {', '.join(FORMATS)} (text formats also with .gz or .zst)"
        )
    return kind


def no_rows(path: Path) -> UserError:
    """What is said of a file without a row."""
    return UserError(f"{printable(str(path))} has no rows; an empty file trains nothing")


@contextmanager
def told_as_sentences(path: Path) -> Iterator[None]:
    """What goes wrong while a file is read becomes a UserError."""
    where = printable(str(path))
    try:
        yield
    except FileNotFoundError:
        raise UserError(_missing(where)) from None
    except PermissionError:
        raise UserError(f"{where} may not be read by you; ask its owner, or chmod it") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{where} is a damaged gzip file ({error}); copy it again") from error
    except OSError as error:
        if path.suffix == ".zst" and error.errno is None:  # pyarrow's word for what does not unpack
            raise UserError(f"{where} is a damaged zstd file ({_first_line(error)}); copy it again") from error
        raise UserError(f"{where} cannot be read: {error.strerror or error}") from error


def _missing(where: str) -> str:
    return f"{where} does not exist; check the path (it is relative to the recipe's folder)"


def open_text(path: Path) -> IO[bytes]:
    """A text file's bytes, unpacked."""
    if path.suffix == ".zst":
        import pyarrow

        path.stat()  # a missing file is told like any other
        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _text(raw: bytes, path: Path, line: int, offset: int) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        line += raw.count(b"\n", 0, error.start)
        raise BadEncoding(
            f"{printable(str(path))}:{line}: byte {offset + error.start} (0x{byte:02x}) is not UTF-8; convert the file, "
            f"e.g. iconv -f WINDOWS-1252 -t UTF-8"
        ) from None
    return text.removeprefix("\ufeff") if offset == 0 else text  # editors on Windows begin files with a byte order mark


def _jsonl(path: Path) -> Iterator[Row | Broken]:
    offset = 0
    with open_text(path) as file:
        for line, raw in enumerate(file, 1):
            if raw.strip():
                try:
                    yield jsonl_row(raw, path, line, offset)
                except UserError as error:
                    yield Broken(error, str(path), line)
            offset += len(raw)


def jsonl_row(raw: bytes, path: Path, line: int, offset: int) -> Row:
    """The row on one line of a jsonl file, which begins `offset` bytes into it; UserError when there is none."""
    text = _text(raw, path, line, offset).strip()
    try:
        value = msgspec.json.decode(text)  # takes less than json does (no NaN, no half characters), the same way and three times as fast
    except (msgspec.DecodeError, RecursionError):
        value = None
    return Row(value if isinstance(value, dict) else _object(_loads(text, path, line), path, line), str(path), line)


def _json(path: Path) -> Iterator[Row | Broken]:
    """A list of objects, an object that holds one such list, or one object a line (many files named .json are jsonl)."""
    with open_text(path) as file:
        text = _text(file.read(), path, 1, 0)
    if not text.strip():
        return
    try:
        values = json_list(text, path)
    except UserError:
        if not is_object(text.lstrip().partition("\n")[0]):
            raise
        yield from _jsonl(path)
        return
    yield from (json_row(value, path, number) for number, value in enumerate(values, 1))


def json_list(text: str, path: Path) -> list[Any]:
    """The list in a JSON document: the document itself, or the one list in its object."""
    document = _loads(text, path, 1)
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        if len(lists) != 1:
            raise UserError(f"{printable(str(path))} is one JSON object; rows are expected as a list of objects, or as jsonl (one a line)")
        document = lists[0]
    if not isinstance(document, list):
        raise UserError(f"{printable(str(path))} holds {_kind(document)}; rows are expected as a list of objects")
    return document


def json_row(value: Any, path: Path, number: int) -> Row | Broken:
    """An element of a JSON list as a row; `number` from 1."""
    try:
        return Row(_object(value, path, number, "row"), str(path), number)
    except UserError as error:
        return Broken(error, str(path), number)


def is_object(line: str) -> bool:
    """Whether a line is a JSON object by itself, as in jsonl."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


class CsvRecords:
    """The records of a CSV file from a place on (`line` from 1, `offset` in bytes). After a record that cannot be read it goes on
    with the line behind it. `longest`: characters of a cell at most."""

    def __init__(self, lines: Iterable[bytes], path: Path, line: int = 1, offset: int = 0, longest: int = 2**31 - 1) -> None:
        csv.field_size_limit(min(sys.maxsize, longest))
        self.line, self.offset = line, offset  # where the record given last begins
        self.next_line, self.next_offset = line, offset
        self._lines = iter(lines)
        self._path = path
        self._reader = self._fresh()

    def _fresh(self) -> Iterator[list[str]]:
        return csv.reader(self._texts(), delimiter="\t" if data_format(self._path) == "tsv" else ",")

    def _texts(self) -> Iterator[str]:
        for raw in self._lines:
            line, offset = self.next_line, self.next_offset
            self.next_line, self.next_offset = line + 1, offset + len(raw)
            yield _text(raw, self._path, line, offset)

    def record(self) -> list[str] | None:
        """The cells of the next record ([] for a blank line), None at the end; UserError when they cannot be read."""
        self.line, self.offset = self.next_line, self.next_offset
        try:
            return next(self._reader, None)
        except UserError:
            self._reader = self._fresh()
            raise
        except csv.Error as error:
            self._reader = self._fresh()
            raise UserError(f"{printable(str(self._path))}:{self.next_line - 1}: not CSV ({error})") from error

    def header(self) -> list[str] | None:
        """The first record, as column names; None when there is nothing. UserError when a name is there twice."""
        header = self.record()
        repeated = sorted({name for name in header or () if (header or []).count(name) > 1})
        if repeated:
            raise UserError(f"{printable(str(self._path))}:1: column {printable(repr(repeated[0]))} is there twice; rename or remove one")
        return header

    def rows(self, header: list[str]) -> Iterator[Row | Broken]:
        """The rows that follow; while one is looked at, `line` and `offset` say where it begins."""
        file = str(self._path)
        while True:
            try:
                cells = self.record()
                if cells is None:
                    return
                if cells and len(cells) != len(header):
                    wrong = f"{len(cells)} cells under {len(header)} columns"
                    raise UserError(f"{printable(file)}:{self.line}: {wrong}; quote cells that hold the separator")
            except UserError as error:
                yield Broken(error, file, self.line)
                continue
            if cells:
                yield Row(dict(zip(header, cells)), file, self.line)


def _csv(path: Path) -> Iterator[Row | Broken]:
    with open_text(path) as file:
        records = CsvRecords(file, path)
        header = records.header()
        if header is not None:
            yield from records.rows(header)


def _parquet(path: Path) -> Iterator[Row | Broken]:
    import pyarrow.parquet

    number = 0
    with table_told_as_sentences(path, "parquet"), pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024):
            yield from batch_rows(batch, path, number)
            number += batch.num_rows


def _arrow(path: Path) -> Iterator[Row | Broken]:
    import pyarrow

    number = 0
    with table_told_as_sentences(path, "Arrow"), pyarrow.memory_map(str(path)) as source:
        for batch in arrow_batches(source):
            yield from batch_rows(batch, path, number)
            number += batch.num_rows


@contextmanager
def table_told_as_sentences(path: Path, kind: str) -> Iterator[None]:
    """What Arrow says of a damaged file becomes a UserError."""
    import pyarrow

    path.stat()  # a missing file is told like any other
    try:
        yield
    except pyarrow.ArrowException as error:
        raise UserError(f"{printable(str(path))} is no whole {kind} file ({_first_line(error)}); copy it again") from error


def arrow_batches(source: Any) -> Iterator[Any]:
    """The record batches of an Arrow stream or file."""
    import pyarrow

    try:
        stream = pyarrow.ipc.open_stream(source)  # what `datasets` writes
    except pyarrow.ArrowInvalid:
        source.seek(0)
        file = pyarrow.ipc.open_file(source)
        yield from (file.get_batch(index) for index in range(file.num_record_batches))
    else:
        yield from stream


def batch_rows(batch: Any, path: Path, before: int) -> Iterator[Row | Broken]:
    """The rows of a record batch that has `before` rows before it in the file."""
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError as error:
        if batch.num_rows > 1:
            for index in range(batch.num_rows):
                yield from batch_rows(batch.slice(index, 1), path, before + index)
            return
        text = f"{printable(str(path))}:{before + 1}: text that is not UTF-8 ({error.reason}); write the file again as UTF-8"
        yield Broken(BadEncoding(text), str(path), before + 1)
        return
    for number, data in enumerate(rows, before + 1):
        yield Row(data, str(path), number)


def _loads(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{line}" if error.lineno == 1 else f"{line + error.lineno - 1}"
        raise UserError(
            f"{printable(str(path))}:{place}: not JSON ({error.msg} at character {error.colno}): {printable(text[:80].rstrip())}"
        ) from None
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{printable(str(path))}:{line}: not readable ({_first_line(error)}); mend that row") from None
    except RecursionError:
        raise UserError(f"{printable(str(path))}:{line}: JSON nested deeper than Python reads; flatten that row") from None


def _object(value: Any, path: Path, line: int, unit: str = "line") -> dict[str, Any]:
    if isinstance(value, dict):
        _no_half_characters(value, path, line)
        return value
    raise UserError(f"{printable(str(path))}:{line}: this {unit} is {_kind(value)}, not an object with named columns")


def _no_half_characters(value: dict[str, Any], path: Path, line: int) -> None:
    """JSON can spell half of a character (\\ud83d alone); no tokenizer takes that."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise BadEncoding(f"{printable(str(path))}:{line}: {half} is half of a character (a lone surrogate); mend that row") from None


def _kind(value: object) -> str:
    names = {
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "null",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)


def _first_line(error: Exception) -> str:
    return printable(str(error).strip().partition("\n")[0], limit=200)
