"""Work beside a hub that serves: what it returns and raises, and that nobody waits for it."""

from threading import Event

import pytest

from tuitune.errors import UserError
from tuitune.hub import waiting
from tuitune.hub.waiting import in_thread


def test_quick_work_is_done_without_a_word() -> None:
    def never() -> None:
        raise AssertionError

    assert in_thread(lambda: 7, never, never) == 7


def test_while_long_work_lasts_everybody_is_served_and_it_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "QUICK_S", 0.0)
    monkeypatch.setattr(waiting, "LONG_S", 0.0)
    go_on, served, told = Event(), [], []

    def serve() -> None:
        served.append(1)
        if len(served) >= 5 and told:
            go_on.set()

    assert in_thread(lambda: go_on.wait(60), lambda: told.append(1), serve) is True
    assert len(served) >= 5
    assert told == [1]


def test_what_the_work_raises_comes_out_and_a_stop_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "QUICK_S", 0.0)

    def refuse() -> None:
        raise UserError("checkpoints cannot be read")

    with pytest.raises(UserError, match="cannot be read"):
        in_thread(refuse, lambda: None, lambda: None)

    def stop() -> None:
        raise KeyboardInterrupt

    end = Event()
    with pytest.raises(KeyboardInterrupt):
        in_thread(lambda: end.wait(60), lambda: None, stop)
    end.set()
