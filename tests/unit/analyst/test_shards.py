"""Work in forked processes: what they answer, and what is said when one of them does not."""

import os
import signal

import pytest

from tuitune.analyst import shards
from tuitune.errors import UserError

TOTAL = 2 * shards.FEWEST


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "cores", lambda: 2)


def test_parts_come_in_order_while_their_caller_is_busy() -> None:
    """Each answer is larger than a pipe has room for."""
    done: list[int] = []
    parts = shards.sharded(TOTAL, lambda slot, part: (slot, part, bytes(1 << 20)), most=8, meanwhile=lambda: done.append(1))
    assert [(slot, part) for slot, part, _ in parts] == [(1, range(shards.FEWEST)), (2, range(shards.FEWEST, TOTAL))]
    assert done == [1]


def test_the_first_parts_error_is_raised() -> None:
    def work(slot: int, part: range) -> None:
        raise UserError(f"part {slot}", exit_code=2)

    with pytest.raises(UserError, match="part 1") as raised:
        shards.sharded(TOTAL, work, most=8)
    assert raised.value.exit_code == 2


def test_a_process_that_was_killed_is_told() -> None:
    def work(slot: int, part: range) -> None:
        if slot == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UserError, match="died: out of memory, or killed"):
        shards.sharded(TOTAL, work, most=8)


def test_no_file_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    assert shards.beside(lambda: 7)() == 7
    assert os.listdir("/proc/self/fd") == before
