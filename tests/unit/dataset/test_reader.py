"""The reader as a process: rows of every format by number, broken and changed files, searches, and what happens when it is killed."""

import gzip
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.dataset.test_sources import ROWS, WRITERS, lines, zstd
from tuitune.analyst.client import Cancelled, Died
from tuitune.dataset.reader.client import Reader
from tuitune.errors import UserError

MANY = 5_000


@pytest.fixture(scope="module")
def process() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


class Asked:
    """One file, and what the reader says of it."""

    def __init__(self, reader: Reader, path: Path) -> None:
        self.reader, self.path = reader, path

    def __call__(self, op: str, **args: Any) -> dict[str, Any]:
        return self.reader.request(op, {"path": str(self.path), **args})

    def rows(self, start: int, count: int) -> list[dict[str, Any]]:
        return self("rows", start=start, count=count)["rows"]

    def counted(self) -> dict[str, Any]:
        known = -1
        while not (state := self("count", known=known))["complete"]:
            known = state["known"]
        return state

    def refusal(self, op: str, **args: Any) -> str:
        with pytest.raises(UserError) as refused:
            self(op, **args)
        assert "\x1b" not in str(refused.value)
        return str(refused.value)


@pytest.fixture
def asked(process: Reader, tmp_path: Path) -> Callable[[str, bytes], Asked]:
    def make(name: str, content: bytes) -> Asked:
        (tmp_path / name).write_bytes(content)
        return Asked(process, tmp_path / name)

    return make


def many(row: int) -> dict[str, Any]:
    return {"question": f"Frage größer {row}?", "answer": "a\nb " * (row % 50)}


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def write_parquet(path: Path, rows: list[dict[str, Any]], group: int) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)


def write_arrow(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow

    table = pyarrow.Table.from_pylist(rows)
    with pyarrow.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=100)


ALL = [many(row) for row in range(MANY)]
BIG: dict[str, Callable[[Path], Any]] = {
    "a.jsonl": lambda path: path.write_bytes(lines(ALL)),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(lines(ALL), 1)),
    "a.jsonl.zst": lambda path: path.write_bytes(zstd(lines(ALL))),
    "a.json": lambda path: path.write_text(json.dumps(ALL, ensure_ascii=False)),
    "a.json.gz": lambda path: path.write_bytes(gzip.compress(json.dumps(ALL).encode(), 1)),
    "a.json.zst": lambda path: path.write_bytes(zstd(json.dumps(ALL, indent=1).encode())),
    "wrapped.json": lambda path: path.write_text(json.dumps({"version": 1, "data": ALL})),
    "a.csv": lambda path: path.write_bytes(as_csv(ALL)),
    "a.csv.gz": lambda path: path.write_bytes(gzip.compress(as_csv(ALL), 1)),
    "a.tsv": lambda path: path.write_bytes(as_csv(ALL, "\t")),
    "one-group.parquet": lambda path: write_parquet(path, ALL, MANY),
    "groups.parquet": lambda path: write_parquet(path, ALL, 300),
    "a.arrow": lambda path: write_arrow(path, ALL),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_served_as_it_is_written(name: str, process: Reader, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    asked = Asked(process, tmp_path / name)
    opened = asked("open")
    assert opened["columns"] == ["question", "answer"]
    assert opened["size"] == (tmp_path / name).stat().st_size
    cells = [{name: text for name, text, _ in row["cells"]} for row in asked.rows(0, 10)]
    assert cells == ROWS
    assert asked.counted()["known"] == len(ROWS)
    for number, row in enumerate(ROWS):
        assert asked("row", row=number)["data"] == row


@pytest.mark.parametrize("name", BIG)
def test_any_row_of_a_large_file_can_be_had_in_any_order(name: str, process: Reader, tmp_path: Path) -> None:
    BIG[name](tmp_path / name)
    asked = Asked(process, tmp_path / name)
    for start in (0, MANY - 20, 2_500, 2_480, 299, 4_000, 7, MANY - 1):
        found = asked.rows(start, 20)
        assert [row["row"] for row in found] == list(range(start, min(MANY, start + 20)))
        for row in found:
            expected = many(row["row"])
            assert row["cells"] == [[column, expected[column][:400], len(expected[column])] for column in ("question", "answer")]
    assert asked.counted()["known"] == MANY
    assert asked.rows(MANY, 5) == []
    assert "there is no row 5,001" in asked.refusal("row", row=MANY)


@pytest.mark.parametrize("name", ["one-group.parquet", "a.jsonl.gz", "a.csv.zst"])
def test_requests_that_are_answered_at_the_same_time_do_not_disturb_each_other(name: str, process: Reader, tmp_path: Path) -> None:
    rows = [{"question": f"{row} " * 200, "answer": str(row)} for row in range(MANY)]
    path = tmp_path / name
    if name.endswith("parquet"):
        write_parquet(path, rows, MANY)
    else:
        path.write_bytes(gzip.compress(lines(rows), 1) if name.endswith(".gz") else zstd(as_csv(rows)))
    asked = Asked(process, path)
    asked.counted()
    found: dict[int, list[int]] = {}
    starts = [4_900, 4_990, 4_100, 4_950]
    threads = [
        threading.Thread(target=lambda start=start: found.update({start: [row["row"] for row in asked.rows(start, 10)]}))
        for start in starts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {start: list(range(start, start + 10)) for start in starts}


def test_rows_say_the_line_they_begin_on(asked: Callable[[str, bytes], Asked]) -> None:
    assert [row["line"] for row in asked("a.jsonl", b'{"a": 1}\n\n \n{"a": 2}').rows(0, 9)] == [1, 4]
    assert [row["line"] for row in asked("a.csv", b'a,b\n1,"x\ny"\n\n2,z\n').rows(0, 9)] == [2, 5]


def test_broken_rows_have_their_number_and_their_reason_and_the_others_are_served(asked: Callable[[str, bytes], Asked]) -> None:
    file = asked("a.jsonl", b'{"a": 1}\n{"a": \n[1]\n{"a": "gr\xf6"}\n{"a": "\\ud83d"}\n\x1b]0;owned\x07\n{"a": 2}\n')
    rows = file.rows(0, 9)
    assert [row["line"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert ["error" in row for row in rows] == [False, True, True, True, True, True, False]
    assert "a.jsonl:2: not JSON" in rows[1]["error"]
    assert "0xf6" in rows[3]["error"]
    assert "\x1b" not in rows[5]["error"]
    assert "a.jsonl:3" in file("row", row=2)["error"]
    assert [file("broken", start=start)["row"] for start in (0, 2, 6)] == [1, 2, 1]
    assert [file("broken", start=start, backward=True)["row"] for start in (6, 5, 1)] == [5, 4, 5]


def test_a_broken_csv_row_does_not_end_the_file(asked: Callable[[str, bytes], Asked]) -> None:
    file = asked("a.csv", b'a,b\n1,x\n2\n3,"y\nz"\n4,\xf6\n5,w\n')
    rows = file.rows(0, 9)
    assert [row["line"] for row in rows] == [2, 3, 4, 6, 7]
    assert "1 cells under 2 columns" in rows[1]["error"]
    assert "a.csv:6" in rows[3]["error"]
    assert rows[4]["cells"] == [["a", "5", 1], ["b", "w", 1]]


def test_text_that_is_not_utf8_in_parquet_costs_its_row_only(process: Reader, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    column = pyarrow.array([b"good", b"gr\xf6", b"fine"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"a": column}), tmp_path / "a.parquet")
    rows = Asked(process, tmp_path / "a.parquet").rows(0, 9)
    assert ["error" in row for row in rows] == [False, True, False]
    assert "a.parquet:2: text that is not UTF-8" in rows[1]["error"]


WHOLE_FILES = {
    "empty.jsonl": (b"", "has no rows"),
    "blank.jsonl": (b"\n \n", "has no rows"),
    "header.csv": (b"a,b\n", "has no rows"),
    "twice.csv": (b"a,a\n1,2\n", "is there twice"),
    "empty.json": (b"[]", "has no rows"),
    "words.json": (b'"x"', "list of objects"),
    "object.json": (b'{"a": 1}', "list of objects"),
    "bad.parquet": (b"PAR1 nothing", "no whole parquet file"),
    "bad.arrow": (b"nothing", "no whole Arrow file"),
    "bad.jsonl.gz": (b'{"a": 1}\n', "damaged gzip"),
    "bad.jsonl.zst": (b'{"a": 1}\n', "damaged zstd"),
    "a.docx": (b"x", "no format tuitune reads"),
}


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_a_file_without_a_row_to_show_is_refused_in_one_sentence(name: str, asked: Callable[[str, bytes], Asked]) -> None:
    content, words = WHOLE_FILES[name]
    sentence = asked(name, content).refusal("open")
    assert words in sentence
    assert name in sentence


def test_a_missing_file_and_a_folder_are_told(process: Reader, tmp_path: Path) -> None:
    assert "does not exist" in Asked(process, tmp_path / "gone.jsonl").refusal("open")
    (tmp_path / "d.jsonl").mkdir()
    assert "is a folder" in Asked(process, tmp_path / "d.jsonl").refusal("open")


def test_where_a_list_breaks_the_rows_before_are_served_and_the_reason_is_said(asked: Callable[[str, bytes], Asked]) -> None:
    file = asked("a.json", b'[{"a": 1}, {"a": 2}, 7, {"a": ')
    assert file.counted()["problem"].endswith("the rows from there on cannot be read")
    assert "row 4 is not JSON" in file.counted()["problem"]
    assert ["error" in row for row in file.rows(0, 9)] == [False, False, True]
    assert file("open")["columns"] == ["a"]
    assert "row 4 is not JSON" in file.refusal("rows", start=3, count=9)


def test_where_a_gzip_file_ends_too_early_the_reason_is_said(asked: Callable[[str, bytes], Asked]) -> None:
    file = asked("a.jsonl.gz", gzip.compress(lines(ALL), 1)[:-5000])
    assert len(file.rows(0, 100)) == 100
    state = file.counted()
    assert 100 < state["known"] < MANY
    assert "damaged gzip" in state["problem"]


def test_ten_million_characters_arrive_cut_with_their_true_length(asked: Callable[[str, bytes], Asked]) -> None:
    text = "🦜" + "x" * 10_000_000
    file = asked("a.jsonl", lines([{"text": "before"}, {"text": text, "odd": "\x1b[2J\x00\u202e"}, {"text": "after"}]))
    rows = file.rows(0, 9)
    assert rows[1]["cells"] == [["text", text[:400], len(text)], ["odd", "\x1b[2J\x00\u202e", 6]]
    assert [row["row"] for row in rows] == [0, 1], "an answer ends behind a large row, to stay small"
    assert file.rows(2, 9)[0]["cells"] == [["text", "after", 5]]
    whole = file("row", row=1, room=1_000)
    assert whole["data"]["text"] == text[:1_000]
    assert whole["cut"][0] == "text has 10,000,001 characters, the first 1,000 are here"
    assert whole["data"]["odd"] == ""


def test_a_line_beyond_all_bounds_is_skipped_and_told(asked: Callable[[str, bytes], Asked]) -> None:
    file = asked("a.jsonl", b'{"a": 1}\n{"a": "' + b"x" * (50 << 20) + b'"}\n{"a": 3}\n')
    rows = file.rows(0, 9)
    assert "more than 50 MiB" in rows[1]["error"]
    assert rows[2]["cells"] == [["a", "3", 1]]
    assert file.counted()["known"] == 3
    assert file.rows(2, 1)[0]["line"] == 3


def test_a_row_comes_as_its_mapping_makes_it_or_with_the_reason(asked: Callable[[str, bytes], Asked]) -> None:
    file = asked("a.jsonl", lines([{"q": "1+1?", "a": "2"}, {"q": None, "a": "3"}]))
    assert "does not know by name" in file("row", row=0)["misfit"]
    made = file("row", row=0, columns={"user": "q", "assistant": "a"})
    assert made["made"]["completion"] == [{"role": "assistant", "content": "2"}]
    assert made["mapping"] == {"user": "q", "assistant": "a"}
    assert "a.jsonl:2: user is nothing" in file("row", row=1, columns={"user": "q", "assistant": "a"})["misfit"]


def test_a_file_that_changes_has_another_stamp_and_its_new_rows(asked: Callable[[str, bytes], Asked], tmp_path: Path) -> None:
    file = asked("a.jsonl", lines([{"a": "old"}] * 3))
    stamp = file.counted()["stamp"]
    (tmp_path / "a.jsonl").write_bytes(lines([{"a": "newer"}] * 5))
    answer = file("rows", start=4, count=1)
    assert answer["stamp"] != stamp
    assert answer["rows"][0]["cells"] == [["a", "newer", 5]]
    (tmp_path / "a.jsonl").unlink()
    assert "does not exist" in file.refusal("rows", start=0, count=1)


SEARCHES: list[tuple[dict[str, Any], int | None]] = [
    ({"text": "größer 4999?", "start": 0}, 4999),
    ({"text": "GRÖSSER 12?", "start": 0}, None),  # ß is not SS to a regular expression
    ({"text": "GRÖßER 12?", "start": 0}, 12),
    ({"text": "GRÖßER 12?", "start": 0, "exact": True}, None),
    ({"text": "frage", "start": 77}, 77),
    ({"text": "frage", "start": 77, "backward": True}, 76),
    ({"text": "frage", "start": 0, "backward": True}, 4999),
    ({"text": r"er (17|18)\?", "start": 18, "regex": True}, 18),
    ({"text": r"er (17|18)\?", "start": 19, "regex": True}, 17),
    ({"text": r"er (17|18)\?", "start": 4000, "regex": True, "backward": True}, 18),
    ({"text": "a\nb", "start": 100}, 101),
    ({"text": "(", "start": 0}, None),
]


@pytest.mark.parametrize("name", ["a.jsonl", "groups.parquet", "a.csv.gz"])
def test_searches_go_both_ways_and_round_the_end(name: str, process: Reader, tmp_path: Path) -> None:
    BIG[name](tmp_path / name)
    asked = Asked(process, tmp_path / name)
    assert [(args, asked("search", **args)["row"]) for args, _ in SEARCHES] == SEARCHES


def test_a_text_is_found_however_json_spells_it(asked: Callable[[str, bytes], Asked]) -> None:
    file = asked("a.jsonl", b'{"a": "n\\u006fthing"}\n{"a": "1"}\n{"a": ["deep", {"b": 1e3}]}\n{"a": "\xe2\x84\xaaelvin"}\n')
    found = [file("search", start=0, text=text)["row"] for text in ("nothing", "deep", "1000.0", "kelvin", "absent")]
    assert found == [0, 2, 2, 3, None]


def test_a_pattern_that_is_none_is_a_sentence(asked: Callable[[str, bytes], Asked]) -> None:
    assert "is no regular expression" in asked("a.jsonl", lines(ROWS)).refusal("search", start=0, text="(", regex=True)


def test_a_search_that_never_ends_is_withdrawn_and_rows_are_served_meanwhile(asked: Callable[[str, bytes], Asked]) -> None:
    file = asked("a.jsonl", lines([{"a": "a" * 60 + "b"}] * 10))
    cancel = threading.Event()
    ends: list[type[BaseException]] = []

    def search() -> None:
        try:
            file.reader.request("search", {"path": str(file.path), "start": 0, "text": "(a+)+$", "regex": True}, cancel=cancel)
        except Cancelled:
            ends.append(Cancelled)

    thread = threading.Thread(target=search)
    thread.start()
    time.sleep(0.3)
    assert len(file.rows(0, 10)) == 10, "rows do not wait for the search"
    assert ends == []
    cancel.set()
    thread.join(5)
    assert ends == [Cancelled]
    assert len(file.rows(0, 10)) == 10


def test_exact_duplicates_name_the_row_they_repeat(asked: Callable[[str, bytes], Asked]) -> None:
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}, {"b": "x", "a": 1}, {"a": "1", "b": "x"}, {"a": 2, "b": "x"}, {"a": 1, "b": "x"}]
    answer = asked("a.jsonl", lines(rows) + b"broken\nbroken\n")("duplicates")
    assert answer == {"rows": 6, "count": 3, "pairs": [[2, 0], [4, 1], [5, 0]]}
    assert asked("b.jsonl", lines(rows[:2]))("duplicates")["pairs"] == []


def test_overlap_names_the_row_of_the_other_file(asked: Callable[[str, bytes], Asked], process: Reader, tmp_path: Path) -> None:
    write_parquet(tmp_path / "eval.parquet", [many(3), many(9_999), many(1)], 10)
    train = asked("train.jsonl", lines(ALL[:100]))
    told: list[str] = []
    answer = process.request("overlap", {"path": str(train.path), "other": str(tmp_path / "eval.parquet")}, progress=told.append)
    assert (answer["count"], answer["pairs"]) == (2, [[1, 2], [3, 0]])


def test_a_scan_says_how_far_it_is(process: Reader, tmp_path: Path) -> None:
    (tmp_path / "long.jsonl").write_bytes(b'{"a": 1}\n' * 30_000)
    told: list[str] = []
    process.request("duplicates", {"path": str(tmp_path / "long.jsonl")}, progress=told.append)
    assert told == ["row 10,000", "row 20,000"]


def test_killed_it_says_so_and_the_next_request_finds_everything_again(tmp_path: Path) -> None:
    reader = Reader()
    BIG["a.jsonl"](tmp_path / "a.jsonl")
    asked = Asked(reader, tmp_path / "a.jsonl")
    assert asked.counted()["known"] == MANY
    process = reader._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (process.pid, signal.SIGKILL)).start()
    with pytest.raises(Died, match=r"the reader died while it worked on this \(signal 9\)"):
        asked.rows(0, 10)
    assert asked.rows(MANY - 1, 10)[0]["row"] == MANY - 1
    assert reader.starts == 2
    reader.close()


def test_an_unknown_request_is_refused_with_the_names_there_are(asked: Callable[[str, bytes], Asked]) -> None:
    assert "unknown op 'dance'" in asked("a.jsonl", lines(ROWS)).refusal("dance")
