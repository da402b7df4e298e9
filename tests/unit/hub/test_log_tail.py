"""The trainer's log: every new line once, safe to show, without secrets, and never so many that the journal drowns."""

from pathlib import Path

import pytest

from tuitune.bus.envelope import encode
from tuitune.bus.journal import MAX_RECORD
from tuitune.hub.log_tail import MAX_LINE, MAX_LINES_PER_POLL, PIECE, LogTail
from tuitune.secrets import MASK, Masker


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "1.rank0.txt"


@pytest.fixture
def tail(log: Path) -> LogTail:
    return LogTail(log, Masker({"MY_TOKEN": "opensesame-opensesame"}))


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def texts(lines: object) -> list[str]:
    return [text for _, text in lines]


def test_a_log_that_is_not_there_yet_has_no_lines(tail: LogTail) -> None:
    assert list(tail.poll()) == []
    assert list(tail.rest()) == []


def test_new_lines_come_once_each_with_its_place_in_the_file(log: Path, tail: LogTail) -> None:
    append(log, "one\n\nzwei ä\n".encode())
    assert list(tail.poll()) == [(0, "one"), (5, "zwei ä")]
    assert list(tail.poll()) == []
    append(log, b"three\n")
    ((offset, text),) = tail.poll()
    assert log.read_bytes()[offset:].startswith(text.encode())


def test_a_line_waits_for_its_end_and_the_last_one_for_the_trainers(log: Path, tail: LogTail) -> None:
    append(log, b"begin\nhalf")
    assert list(tail.poll()) == [(0, "begin")]
    append(log, b" a line\nthe last")
    assert list(tail.poll()) == [(6, "half a line")]
    assert list(tail.rest()) == [(18, "the last")]
    assert list(tail.rest()) == []


def test_a_character_cut_by_the_poll_is_whole_in_the_end(log: Path, tail: LogTail) -> None:
    for byte in "€uro\n".encode():
        append(log, bytes([byte]))
        lines = list(tail.poll())
    assert lines == [(0, "€uro")]


def test_a_progress_bars_redraws_count_once(log: Path, tail: LogTail) -> None:
    append(log, b"\r 10%\r 50%\r100%\ndone\r\n")
    assert texts(tail.poll()) == ["100%", "done"]


def test_escapes_and_broken_text_are_shown_never_obeyed(log: Path, tail: LogTail) -> None:
    append(log, b"\x1b[31mred\x07\tx \xff\xfe\n")
    (text,) = texts(tail.poll())
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "red" in text
    assert "\ufffd" in text


def test_a_secret_is_masked_even_where_the_line_is_cut(log: Path, tail: LogTail) -> None:
    append(log, b"a opensesame-opensesame b\n" + b"y" * (MAX_LINE - 8) + b"opensesame-opensesame\n")
    short, long = texts(tail.poll())
    assert short == f"a {MASK} b"
    assert "opense" not in long
    assert "opense" not in "".join(tail.recent)


@pytest.mark.parametrize("line", [b"x" * 3_000_000, "€".encode() * 1_000_000, b"\x01" * 2_000_000], ids=["ascii", "wide", "controls"])
def test_an_endless_line_is_cut_to_what_a_record_holds(log: Path, tail: LogTail, line: bytes) -> None:
    append(log, line + b"\nafter\n")
    found = [*tail.poll(), *tail.poll(), *tail.rest()]
    assert all(len(encode({"text": text})) < MAX_RECORD for _, text in found)
    assert found[-1][1] == "after"
    assert 1 < len(found) <= 2 + len(line) // PIECE


def test_a_burst_shows_its_ends_and_says_how_much_is_left_out(log: Path, tail: LogTail) -> None:
    append(log, b"".join(b"line %d\n" % number for number in range(1000)))
    shown = texts(tail.poll())
    left_out = 1000 - 2 * MAX_LINES_PER_POLL
    assert len(shown) == 2 * MAX_LINES_PER_POLL + 1
    assert shown[0] == "line 0"
    assert "line 999" in shown
    assert sum(f"{left_out} more lines in {log.name}" in text for text in shown) == 1


def test_the_last_lines_are_kept_for_the_crash_report_also_those_left_out(log: Path, tail: LogTail) -> None:
    append(log, b"".join(b"line %d\n" % number for number in range(1000)))
    list(tail.poll())
    assert list(tail.recent) == [f"line {number}" for number in range(800, 1000)]


def test_the_end_of_a_log_is_reached_however_much_came_since_the_last_look(log: Path, tail: LogTail) -> None:
    """The traceback is at the end, and the trainer may shout megabytes before it dies."""
    append(log, b"noise " * 20 * 30_000 + b"\n" + b"noise\n" * 400_000 + b"ValueError: the reason")
    list(tail.poll())
    offset, text = list(tail.rest())[-1]
    assert text == "ValueError: the reason"
    assert log.read_bytes()[offset:] == b"ValueError: the reason"
    assert tail.recent[-1] == "ValueError: the reason"


def test_offsets_stay_right_behind_an_endless_line(log: Path, tail: LogTail) -> None:
    append(log, b"x" * (2 * PIECE + 10) + b"\nafter\nlast\n")
    found = [*tail.poll(), *tail.poll(), *tail.poll(), *tail.rest()]
    data = log.read_bytes()
    for offset, text in found[-2:]:
        assert data[offset : offset + len(text)] == text.encode()


def test_a_folder_in_the_logs_place_is_no_error(log: Path, tail: LogTail) -> None:
    log.mkdir()
    assert list(tail.poll()) == []
    assert list(tail.rest()) == []


# --- going on after another hub ---------------------------------------------------------------------------------------------------


def test_another_hub_goes_on_behind_the_last_line_that_was_told_and_knows_what_came_before(log: Path, tail: LogTail) -> None:
    append(log, "one\nzwei ä\nthree\n".encode())
    tail.go_on_after(4)
    assert list(tail.recent) == ["one", "zwei ä"], "for the crash report"
    assert list(tail.poll()) == [(12, "three")]
    append(log, b"four\n")
    assert texts(tail.poll()) == ["four"]


def test_of_a_long_log_only_the_end_is_read_again(log: Path, tail: LogTail) -> None:
    append(log, b"x" * 99 + b"\n")
    append(log, (b"y" * 99 + b"\n") * (PIECE // 100))
    append(log, b"last\nnew\n")
    tail.go_on_after(log.stat().st_size - len(b"last\nnew\n"))
    assert tail.recent[-1] == "last"
    assert set(tail.recent) == {"y" * 99, "last"}, "no line that lacks its beginning"
    assert texts(tail.poll()) == ["new"]


def test_a_log_that_has_gone_meanwhile_is_begun_at_its_beginning(log: Path, tail: LogTail) -> None:
    tail.go_on_after(500)
    append(log, b"anew\n")
    assert texts(tail.poll()) == ["anew"]
