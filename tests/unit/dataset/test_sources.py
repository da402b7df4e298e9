"""Data files to rows: every format gives the same rows, and every kind of broken file one sentence that names the place."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuitune.dataset.sources import is_data_file, read_rows
from tuitune.errors import UserError

ROWS = [{"question": "1+1?", "answer": "2"}, {"question": 'größer, "so"?', "answer": "a\nb"}, {"question": "2024-01-01", "answer": "007"}]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def zstd(data: bytes) -> bytes:
    import pyarrow

    return bytes(pyarrow.Codec("zstd").compress(data, asbytes=True))


def write_csv(path: Path) -> None:
    import csv

    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["question", "answer"], delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(ROWS)


def write_parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


def write_arrow(path: Path) -> None:
    import pyarrow

    table = pyarrow.Table.from_pylist(ROWS)
    maker = pyarrow.ipc.new_file if "file" in path.name else pyarrow.ipc.new_stream
    with maker(str(path), table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "rows.jsonl": lambda path: path.write_bytes(lines(ROWS)),
    "rows.ndjson": lambda path: path.write_bytes(b"\n" + lines(ROWS) + b"  \n"),
    "windows.jsonl": lambda path: path.write_bytes(b"\xef\xbb\xbf" + lines(ROWS).replace(b"\n", b"\r\n")),
    "rows.jsonl.gz": lambda path: path.write_bytes(gzip.compress(lines(ROWS))),
    "rows.jsonl.zst": lambda path: path.write_bytes(zstd(lines(ROWS[:1])) + zstd(lines(ROWS[1:]))),
    "rows.json": lambda path: path.write_text(json.dumps(ROWS, indent=2)),
    "wrapped.json": lambda path: path.write_text(json.dumps({"version": 1, "data": ROWS})),
    "really-lines.json": lambda path: path.write_bytes(lines(ROWS)),
    "rows.csv": write_csv,
    "rows.tsv": write_csv,
    "rows.parquet": write_parquet,
    "stream.arrow": write_arrow,
    "file.arrow": write_arrow,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_rows_as_written(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    assert is_data_file(tmp_path / name)
    assert [row.data for row in read_rows(tmp_path / name)] == ROWS
    assert len(list(read_rows(tmp_path / name, limit=2))) == 2


def test_values_keep_their_types_whatever_the_rows_before_them_hold(tmp_path: Path) -> None:
    rows = [{"a": "1"}, {"a": 1}, {"a": ["x"]}, {"a": None}, {"a": "2024-01-01"}]
    (tmp_path / "mixed.jsonl").write_bytes(lines(rows))
    assert [row.data for row in read_rows(tmp_path / "mixed.jsonl")] == rows


def test_a_row_knows_the_line_it_begins_on(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n\n{"a": 2}\n')
    assert [row.line for row in read_rows(tmp_path / "a.jsonl")] == [1, 3]
    (tmp_path / "a.csv").write_text('a,b\n1,"x\ny"\n2,z\n')
    assert [row.line for row in read_rows(tmp_path / "a.csv")] == [2, 4]


def test_a_row_of_ten_million_characters_and_control_characters_come_through_unharmed(tmp_path: Path) -> None:
    row = {"text": "x" * 10_000_000, "odd": "\x1b[31m\x00\x07\u2028\u202e"}
    (tmp_path / "long.jsonl").write_bytes(lines([row]))
    assert [found.data for found in read_rows(tmp_path / "long.jsonl")] == [row]
    (tmp_path / "long.csv").write_text("text\n" + row["text"] + "\n")
    assert [found.data for found in read_rows(tmp_path / "long.csv")] == [{"text": row["text"]}]


DAMAGED = {
    "not JSON": ("a.jsonl", b'{"a": 1}\n{"a": \n', ["a.jsonl:2", "not JSON"]),
    "a list where a row belongs": ("a.jsonl", b'{"a": 1}\n[1, 2]\n', ["a.jsonl:2", "a list"]),
    "a bare number": ("a.jsonl", b"5\n", ["a.jsonl:1", "a number"]),
    "Latin-1": ("a.jsonl", b'{"a": "ok"}\n{"a": "gr\xf6\xdfer"}\n', ["a.jsonl:2", "byte 21", "0xf6", "UTF-8"]),
    "UTF-16": ("a.jsonl", '{"a": 1}\n'.encode("utf-16"), ["a.jsonl:1", "byte 0", "UTF-8"]),
    "Latin-1 inside a JSON list": ("a.json", b'[\n{"a": 1},\n{"a": "\xf6"}\n]', ["a.json:3", "0xf6"]),
    "half a character": ("a.jsonl", b'{"a": 1}\n{"a": "\\ud83d"}\n', ["a.jsonl:2", "\\ud83d"]),
    "a JSON object without rows": ("a.json", b'{\n"a": 1\n}', ["list of objects"]),
    "a JSON list of strings": ("a.json", b'["x"]', ["a.json:1", "a string"]),
    "JSON that stops": ("a.json", b'[{"a": 1},\n', ["a.json", "not JSON"]),
    "an empty file": ("a.jsonl", b"", ["no rows"]),
    "blank lines only": ("a.json", b"\n \n", ["no rows"]),
    "a header and nothing more": ("a.csv", b"a,b\n", ["no rows"]),
    "a short CSV row": ("a.csv", b'a,b\n1,"x\ny"\n3\n', ["a.csv:4", "1 cells under 2 columns"]),
    "a column twice": ("a.csv", b"a,b,a\n1,2,3\n", ["'a'", "twice"]),
    "gzip cut off": ("a.jsonl.gz", gzip.compress(lines(ROWS))[:-12], ["damaged gzip"]),
    "gzip overwritten": ("a.jsonl.gz", gzip.compress(lines(ROWS))[:12] + b"\xff" * 40, ["damaged gzip"]),
    "no gzip at all": ("a.jsonl.gz", b'{"a": 1}\n', ["damaged gzip"]),
    "zstd cut off": ("a.jsonl.zst", zstd(lines(ROWS))[:-12], ["damaged zstd"]),
    "no zstd at all": ("a.jsonl.zst", b'{"a": 1}\n', ["damaged zstd"]),
    "an archive in an archive": ("a.parquet.gz", b"x", ["no format tuitune reads"]),
    "no parquet": ("a.parquet", b"PAR1 nothing", ["no whole parquet file"]),
    "no Arrow": ("a.arrow", b"nothing", ["no whole Arrow file"]),
    "an empty parquet": ("a.parquet", b"", ["no whole parquet file"]),
    "an empty Arrow file": ("a.arrow", b"", ["a.arrow"]),
    "a format nobody reads": ("a.docx", b"x", [".jsonl"]),
    "a terminal sequence in the data": ("a.jsonl", b"\x1b]0;owned\x07\n", ["a.jsonl:1"]),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_one_sentence_that_names_the_place(kind: str, tmp_path: Path) -> None:
    name, content, words = DAMAGED[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as raised:
        list(read_rows(tmp_path / name))
    sentence = str(raised.value)
    for word in words:
        assert word in sentence
    assert "\x1b" not in sentence
    assert "\n" not in sentence


def test_deep_nesting_is_a_sentence_too(tmp_path: Path) -> None:
    (tmp_path / "deep.jsonl").write_text('{"a": ' + "[" * 200_000 + "]" * 200_000 + "}\n")
    with pytest.raises(UserError, match="nested"):
        list(read_rows(tmp_path / "deep.jsonl"))


@pytest.mark.parametrize("name", ["gone.jsonl", "gone.parquet", "gone.arrow", "gone.csv"])
def test_a_missing_file_says_what_the_path_is_relative_to(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; check the path"):
        list(read_rows(tmp_path / name))


def test_a_folder_is_told_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        list(read_rows(tmp_path / "data.jsonl"))


def test_an_unreadable_file_says_whose_fault_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # root, who may run the tests, reads everything

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match="may not be read"):
        list(read_rows(tmp_path / "a.jsonl"))


def test_reading_imports_nothing_heavy() -> None:
    code = "import sys, tuitune.dataset.load; print(sorted({'torch', 'datasets', 'pyarrow', 'numpy', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
