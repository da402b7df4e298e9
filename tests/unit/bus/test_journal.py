"""The journal: every whole record comes back, whatever cut, killed or filled the disk under its writer."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tuitune.bus.envelope import VERSION, as_number, decode, encode
from tuitune.bus.journal import MAX_RECORD, Journal, JournalTail, read_records

ROOT = Path(__file__).parents[3]


def until(condition: Callable[[], object], seconds: float = 60.0) -> object:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError("that never came true")


def write(path: Path, *records: dict) -> None:
    path.write_bytes(b"".join(encode(record) for record in records))


def read_all(folder: Path, limit_bytes: int = 4 << 20) -> list[dict]:
    """Polls until nothing new comes."""
    tail, found = JournalTail(folder), []
    while records := tail.poll(limit_bytes):
        found += records
    return found


# --- one writer -------------------------------------------------------------------------------------------------------------------


def test_a_record_carries_version_number_time_and_type(tmp_path: Path) -> None:
    journal, before = Journal(tmp_path / "hub.jsonl"), time.time()
    journal.emit("state", s="starting")
    journal.emit("metrics", step=1)
    first, second = read_all(tmp_path)
    assert (first["v"], first["n"], first["ev"], first["s"], first["src"]) == (VERSION, 0, "state", "starting", "hub")
    assert second["n"] == 1
    assert before <= first["t"] <= second["t"] <= time.time()


def test_a_field_cannot_replace_the_head(tmp_path: Path) -> None:
    Journal(tmp_path / "hub.jsonl").emit("metrics", n=99, v=7, t=0.0, step=3)
    (record,) = read_all(tmp_path)
    assert (record["n"], record["v"], record["step"]) == (0, VERSION, 3)
    assert record["t"] > 1e9


def test_the_file_is_readable_by_its_user_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal" / "hub.jsonl")
    assert journal.path.stat().st_mode & 0o077 == 0
    assert journal.path.parent.stat().st_mode & 0o077 == 0


def test_a_journal_cut_at_any_byte_and_reopened_gives_back_every_whole_record(tmp_path: Path) -> None:
    path = tmp_path / "hub.jsonl"
    journal = Journal(path)
    for step in range(4):
        journal.emit("metrics", step=step, text="ä → �\n{}")
    journal.close()
    whole = path.read_bytes()
    ends = [index for index, byte in enumerate(whole) if byte == 0x0A]  # a record that lacks its line feed alone is whole
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends)
        again = Journal(path)
        again.emit("state", s="again")
        again.close()
        tail = JournalTail(tmp_path)
        records = tail.poll()
        assert [record.get("step") for record in records] == [*range(kept), None], f"cut at byte {cut}"
        assert [record["n"] for record in records] == list(range(kept + 1)), f"cut at byte {cut}"
        assert tail.torn == (0 if cut == 0 or cut in ends or cut - 1 in ends else 1), f"cut at byte {cut}"


def test_numbering_goes_on_after_a_reopen(tmp_path: Path) -> None:
    for expected in range(3):
        journal = Journal(tmp_path / "hub.jsonl")
        journal.emit("hello")
        journal.close()
        assert [record["n"] for record in read_all(tmp_path)] == list(range(expected + 1))


def test_a_record_after_close_is_counted_as_dropped(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "hub.jsonl")
    journal.close()
    journal.close()
    journal.emit("metrics", step=1)
    assert journal.dropped == 1
    assert read_all(tmp_path) == []


def test_a_record_that_is_too_long_is_told_instead_of_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "hub.jsonl")
    journal.emit("sample", text="x" * MAX_RECORD)
    journal.emit("metrics", step=1)
    long, short = read_all(tmp_path)
    assert long["ev"] == "sample"
    assert long["too_long"] > MAX_RECORD
    assert "text" not in long
    assert (short["n"], short["step"]) == (1, 1)


def test_a_file_that_cannot_be_opened_at_all_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "hub.jsonl").mkdir()
    with pytest.raises(OSError, match=r"hub\.jsonl"):
        Journal(tmp_path / "hub.jsonl")


def test_a_secret_never_gets_into_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "opensesame-opensesame")
    Journal(tmp_path / "hub.jsonl").emit("log", text="key opensesame-opensesame", deep={"list": ["hf_abcdefgh12345678"]})
    data = (tmp_path / "hub.jsonl").read_text()
    assert "opensesame" not in data
    assert "hf_abcdefgh" not in data


# --- full and broken disks --------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_counted_never_raised_and_told_by_the_next_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "hub.jsonl")
    journal.emit("metrics", step=0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", _raise_no_space)
        journal.emit("metrics", step=1)
        journal.emit("state", s="saving")
    assert journal.dropped == 2
    journal.emit("metrics", step=3)
    journal.emit("metrics", step=4)
    assert [(record["n"], record["step"], record.get("dropped")) for record in read_all(tmp_path)] == [
        (0, 0, None),
        (1, 3, 2),
        (2, 4, None),
    ]


def test_a_record_half_written_on_a_full_disk_costs_that_record_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, real = Journal(tmp_path / "hub.jsonl"), os.write
    journal.emit("metrics", step=0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: real(file, data[:20]))
        journal.emit("metrics", step=1)
        patch.setattr(os, "write", _raise_no_space)
        journal.emit("metrics", step=2)
    journal.emit("metrics", step=3)
    tail = JournalTail(tmp_path)
    assert [(record["n"], record["step"], record.get("dropped")) for record in tail.poll()] == [(0, 0, None), (1, 3, 2)]
    assert tail.torn == 1


def _raise_no_space(file: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the kernel's own full disk is not there")
def test_the_kernels_own_full_disk_is_survived_as_well(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "hub.jsonl")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._file)
    os.close(full)
    journal.emit("end")
    assert journal.dropped == 1


# --- other processes --------------------------------------------------------------------------------------------------------------

WRITER = """
import random, sys
from pathlib import Path
from tuitune.bus.journal import Journal
path, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng, journal = random.Random(seed), Journal(path)
for number in range(count):
    journal.emit("sample", round=seed, i=number, text="\\u00e4x\\"" * rng.randrange(1, 12_000))
"""


def start_writer(path: Path, seed: int, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(seed), str(count)], cwd=ROOT)


def test_a_reader_beside_a_living_writer_gets_every_record_once_and_whole(tmp_path: Path) -> None:
    writer, tail, found = start_writer(tmp_path / "trainer-1.jsonl", 0, 400), JournalTail(tmp_path), []
    polls = 0

    def all_there() -> bool:
        nonlocal polls
        records = tail.poll()
        found.extend(records)
        polls += bool(records)
        return len(found) >= 400

    until(all_there)
    assert writer.wait(10) == 0
    assert tail.poll() == []
    assert [record["i"] for record in found] == list(range(400))
    assert tail.torn == 0
    assert polls > 1, "the writer was finished before the first poll: this test has seen nothing"


KILLS = int(os.environ.get("TUITUNE_KILLS", "5"))


@pytest.mark.timeout(60 + 5 * KILLS)
def test_a_writer_killed_again_and_again_loses_nothing_but_one_torn_line_each(tmp_path: Path) -> None:
    """TUITUNE_KILLS=100 makes a longer one."""
    path, tail, found = tmp_path / "trainer-1.jsonl", JournalTail(tmp_path), []

    def seen(seed: int) -> int:
        found.extend(tail.poll())
        return sum(record["round"] == seed for record in found)

    for seed in range(KILLS):
        writer = start_writer(path, seed, 1_000_000)
        wanted = 20 + 7 * (seed % 20)
        until(lambda seed=seed, wanted=wanted: seen(seed) >= wanted)
        writer.send_signal(signal.SIGKILL)
        writer.wait(10)
        found += tail.poll()
    for seed in range(KILLS):
        numbers = [record["i"] for record in found if record["round"] == seed]
        assert numbers == list(range(len(numbers))), "a record is missing, doubled or out of order"
    assert [record["n"] for record in found] == list(range(len(found)))
    assert tail.torn <= KILLS
    assert found == read_all(tmp_path), "who reads it afterwards reads the same"


# --- the reader -------------------------------------------------------------------------------------------------------------------


def test_several_files_come_by_time_and_each_in_its_own_order(tmp_path: Path) -> None:
    """The trainer's clock stepped back between its second and third record: what happened first still comes first."""
    write(tmp_path / "hub.jsonl", {"t": 1.0, "i": 0}, {"t": 3.0, "i": 1}, {"t": 9.0, "i": 2})
    write(tmp_path / "trainer-1.jsonl", {"t": 2.0, "i": 0}, {"t": 5.0, "i": 1}, {"t": 4.0, "i": 2}, {"t": 10.0, "i": 3})
    order = [(record["src"], record["i"]) for record in JournalTail(tmp_path).poll()]
    assert order == [("hub", 0), ("trainer-1", 0), ("hub", 1), ("trainer-1", 1), ("trainer-1", 2), ("hub", 2), ("trainer-1", 3)]


def test_a_long_history_keeps_its_order_across_polls_of_bounded_bytes(tmp_path: Path) -> None:
    pad = "x" * 1000
    write(tmp_path / "a.jsonl", *({"t": float(i), "i": i, "pad": pad} for i in range(0, 2000, 2)))
    write(tmp_path / "b.jsonl", *({"t": float(i), "i": i} for i in range(1, 2000, 2)))
    tail, found, sizes = JournalTail(tmp_path), [], []
    while records := tail.poll(limit_bytes=2 * MAX_RECORD):
        found += [record["i"] for record in records]
        sizes.append(sum(len(encode(record)) for record in records))
    assert found == list(range(2000))
    assert len(sizes) > 3, "one poll took it all: nothing was bounded"
    assert max(sizes) <= 2 * 2 * MAX_RECORD + MAX_RECORD


def test_a_torn_tail_is_read_when_its_rest_arrives(tmp_path: Path) -> None:
    path, line, tail = tmp_path / "hub.jsonl", encode({"t": 1.0, "text": "ä" * 100}), JournalTail(tmp_path)
    for index in range(len(line)):
        with path.open("ab") as file:
            file.write(line[index : index + 1])
        records = tail.poll()
        assert bool(records) == (index == len(line) - 1)
    assert records[0]["text"] == "ä" * 100
    assert tail.torn == 0


def test_lines_that_are_no_records_are_counted_and_passed_over(tmp_path: Path) -> None:
    lines = [b'{"t":1,"i":0}', b"garbage", b"[1,2]", b"12", b"\xff\xfe", b"", b'{"t":2,"i":', b"[" * 100_000, b'{"t":3,"i":1}']
    (tmp_path / "hub.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    tail = JournalTail(tmp_path)
    assert [record["i"] for record in tail.poll()] == [0, 1]
    assert tail.torn == 6


def test_a_record_without_a_usable_time_stays_where_it_is(tmp_path: Path) -> None:
    write(tmp_path / "hub.jsonl", {"t": 1.0, "i": 0}, {"i": 1}, {"t": "soon", "i": 2}, {"t": 2.0, "i": 3})
    assert [record["i"] for record in JournalTail(tmp_path).poll()] == [0, 1, 2, 3]


def test_a_time_of_four_hundred_digits_does_not_stop_the_reader(tmp_path: Path) -> None:
    (tmp_path / "hub.jsonl").write_bytes(b'{"t":1,"i":0}\n{"t":' + b"9" * 400 + b',"i":1}\n{"t":2,"i":2}\n')
    assert [record["i"] for record in read_all(tmp_path)] == [0, 1, 2]


def test_a_damaged_disks_endless_line_is_passed_over_without_filling_the_memory(tmp_path: Path) -> None:
    (tmp_path / "hub.jsonl").write_bytes(b"\0" * (3 << 20) + b"\n" + encode({"t": 1.0, "i": 0}))
    tail = JournalTail(tmp_path)
    assert [record["i"] for record in tail.poll(limit_bytes=1 << 18)] == [0]
    assert tail.torn == 1


def test_files_may_appear_later_and_other_names_are_not_read(tmp_path: Path) -> None:
    tail = JournalTail(tmp_path / "journal")
    assert tail.poll() == []
    (tmp_path / "journal").mkdir()
    write(tmp_path / "journal" / "notes.txt", {"t": 1.0})
    assert tail.poll() == []
    write(tmp_path / "journal" / "trainer-2.jsonl", {"t": 1.0})
    assert [record["src"] for record in tail.poll()] == ["trainer-2"]


def test_one_file_can_be_read_alone(tmp_path: Path) -> None:
    write(tmp_path / "hub.jsonl", {"t": 1.0})
    write(tmp_path / "trainer-1.jsonl", {"t": 2.0})
    assert [record["src"] for record in JournalTail(tmp_path, only="trainer-1").poll()] == ["trainer-1"]


# --- the envelope -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "text"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_a_number_that_is_not_finite_travels_as_a_string_and_comes_back(tmp_path: Path, value: float, text: str) -> None:
    Journal(tmp_path / "trainer-1.jsonl").emit("metrics", loss=value, deep=[{"g": value}])
    (record,) = read_all(tmp_path)
    assert record["loss"] == text
    back = as_number(record["deep"][0]["g"])
    assert back is not None
    assert math.isnan(back) if math.isnan(value) else back == value


@pytest.mark.parametrize("value", [None, True, "1.5", "NaN", [1.0], {}])
def test_what_is_no_number_gives_none(value: object) -> None:
    assert as_number(value) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_an_integer_too_large_for_a_float_is_no_error(sign: int) -> None:
    """A journal's numbers come from a file that anybody may have written."""
    assert as_number(sign * 10**400) == sign * math.inf


def test_every_kind_of_value_becomes_one_line_of_json() -> None:
    strange = {"path": Path("/x"), 1: {2, 3}, "half": "\ud800", "bytes": b"\n", "none": None, "line": "a\nb", "type": int}
    line = encode(strange)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["path"] == "/x"
    assert decode(line) == json.loads(line)


def test_no_proper_prefix_of_a_record_is_a_record() -> None:
    line = encode({"v": 1, "n": 3, "t": 1.5, "ev": "log", "text": 'ä"}\\', "list": [1, {"x": None}]}).rstrip(b"\n")
    assert decode(line) is not None
    assert [cut for cut in range(len(line)) if decode(line[:cut]) is not None] == []


# --- some kinds only --------------------------------------------------------------------------------------------------------------


def test_records_of_some_kinds_are_found_among_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "hub.jsonl"
    journal = Journal(path)
    for number in range(3):
        journal.emit("gpu", devices=[{"text": '"ev":"command"'}])
        journal.emit("command", id=f"c{number}", args={"prompt": "ä" * 3000})
        journal.emit("log", text='{"ev":"applied"}')
    journal.emit("applied", id="c1", ok=True)
    journal.close()
    with path.open("ab") as file:
        file.write(b'{"v":1,"n":99,"t":1.0,"ev":"command","id":"torn')
    found = [(record["ev"], record["id"]) for record in read_records(path, ("command", "applied"))]
    assert found == [("command", "c0"), ("command", "c1"), ("command", "c2"), ("applied", "c1")]
    assert list(read_records(tmp_path / "none.jsonl", ("command",))) == []
