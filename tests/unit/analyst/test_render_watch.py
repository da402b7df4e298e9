"""When a render counts as stuck: by the work that went into it, because a busy box may leave it lying for seconds."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tuitune.analyst import render_watch
from tuitune.analyst.render_watch import RenderWatch


def in_child(watch: RenderWatch, render: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        watch.begin()
        render()
        os._exit(0)
    return pid


def spin() -> None:
    while True:
        pass


@pytest.mark.parametrize(("render", "stuck"), [(spin, True), (lambda: time.sleep(60), False)], ids=["works on and on", "gets no time"])
def test_a_render_is_stuck_when_it_works_for_too_long(monkeypatch: pytest.MonkeyPatch, render: Callable[[], None], stuck: bool) -> None:
    monkeypatch.setattr(render_watch, "LIMIT_S", 0.5)
    watch = RenderWatch()
    pid = in_child(watch, render)
    try:
        deadline = time.monotonic() + (20 if stuck else 1.5)
        while not watch.stuck and time.monotonic() < deadline:
            time.sleep(0.05)
        assert watch.stuck == stuck
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_render_that_never_gets_to_work_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_watch, "LIMIT_S", 0.1)
    monkeypatch.setattr(render_watch, "PATIENCE_S", 0.2)
    watch = RenderWatch()
    watch.begin()
    time.sleep(0.3)
    assert watch.stuck
    watch.end()
    assert not watch.stuck
