"""Read data files row by row, each row with the file and line it came from.

Parsed here and not by `datasets`, whose type guessing turns mixed columns into something else (dates, JSON strings) and reports a bad
byte without its place. Rows come out as written: a ten-million-character row or a control character is data like any other.
"""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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
    reader = {"jsonl": _jsonl, "json": _json, "csv": _csv, "tsv": _csv, "parquet": _parquet, "arrow": _arrow}[kind]
    found = 0
    try:
        for row in reader(path):
            if limit is not None and found >= limit:
                return
            found += 1
            yield row
    except FileNotFoundError:
        raise UserError(_missing(where)) from None
    except PermissionError:
        raise UserError(f"{where} may not be read by you; ask its owner, or chmod it") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{where} is a damaged gzip file ({error}); copy it again") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: text that is not UTF-8 after row {found} ({error.reason}); write the file again as UTF-8") from error
    except OSError as error:
        if path.suffix == ".zst" and error.errno is None:  # pyarrow's word for what does not unpack
            raise UserError(f"{where} is a damaged zstd file ({_first_line(error)}); copy it again") from error
        raise UserError(f"{where} cannot be read: {error.strerror or error}") from error
    if not found:
        raise UserError(f"{where} has no rows; an empty file trains nothing")


def _missing(where: str) -> str:
    return f"{where} does not exist; check the path (it is relative to the recipe's folder)"


def _open(path: Path) -> AbstractContextManager[IO[bytes]]:
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
        raise UserError(
            f"{printable(str(path))}:{line}: byte {offset + error.start} (0x{byte:02x}) is not UTF-8; convert the file, "
            f"e.g. iconv -f WINDOWS-1252 -t UTF-8"
        ) from None
    return text.removeprefix("\ufeff") if offset == 0 else text  # editors on Windows begin files with a byte order mark


def _jsonl(path: Path) -> Iterator[Row]:
    offset = 0
    with _open(path) as file:
        for line, raw in enumerate(file, 1):
            if raw.strip():
                text = _text(raw, path, line, offset).strip()
                yield Row(_object(_loads(text, path, line), path, line), str(path), line)
            offset += len(raw)


def _json(path: Path) -> Iterator[Row]:
    """A list of objects, an object that holds one such list, or one object a line (many files named .json are jsonl)."""
    with _open(path) as file:
        text = _text(file.read(), path, 1, 0)
    if not text.strip():
        return
    try:
        document = _loads(text, path, 1)
    except UserError:
        if not _is_object(text.lstrip().partition("\n")[0]):
            raise
        yield from _jsonl(path)
        return
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        if len(lists) != 1:
            raise UserError(f"{printable(str(path))} is one JSON object; rows are expected as a list of objects, or as jsonl (one a line)")
        document = lists[0]
    if not isinstance(document, list):
        raise UserError(f"{printable(str(path))} holds {_kind(document)}; rows are expected as a list of objects")
    for number, row in enumerate(document, 1):
        yield Row(_object(row, path, number, "row"), str(path), number)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    offset = 0

    def lines(file: IO[bytes]) -> Iterator[str]:
        nonlocal offset
        for line, raw in enumerate(file, 1):
            yield _text(raw, path, line, offset)
            offset += len(raw)

    with _open(path) as file:
        reader = csv.reader(lines(file), delimiter="\t" if data_format(path) == "tsv" else ",")
        try:
            header = next(reader, None)
            if header is None:
                return
            repeated = sorted({name for name in header if header.count(name) > 1})
            if repeated:
                raise UserError(f"{printable(str(path))}:1: column {printable(repr(repeated[0]))} is there twice; rename or remove one")
            line = reader.line_num + 1
            for cells in reader:
                started, line = line, reader.line_num + 1  # a quoted cell may span lines
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise UserError(
                        f"{printable(str(path))}:{started}: {len(cells)} cells under {len(header)} columns; "
                        "quote cells that hold the separator"
                    )
                yield Row(dict(zip(header, cells)), str(path), started)
        except csv.Error as error:
            raise UserError(f"{printable(str(path))}:{reader.line_num}: not CSV ({error})") from error


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    path.stat()  # a missing file is told like any other
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from _batches(file.iter_batches(batch_size=1024), path)
    except pyarrow.ArrowException as error:
        raise UserError(f"{printable(str(path))} is no whole parquet file ({_first_line(error)}); copy it again") from error


def _arrow(path: Path) -> Iterator[Row]:
    import pyarrow

    path.stat()
    try:
        with pyarrow.memory_map(str(path)) as source:
            try:
                reader = pyarrow.ipc.open_stream(source)  # what `datasets` writes
            except pyarrow.ArrowInvalid:
                source.seek(0)
                file = pyarrow.ipc.open_file(source)
                reader = (file.get_batch(index) for index in range(file.num_record_batches))
            yield from _batches(reader, path)
    except pyarrow.ArrowException as error:
        raise UserError(f"{printable(str(path))} is no whole Arrow file ({_first_line(error)}); copy it again") from error


def _batches(batches: Any, path: Path) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for data in batch.to_pylist():
            number += 1
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
        raise UserError(f"{printable(str(path))}:{line}: {half} is half of a character (a lone surrogate); mend that row") from None


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
