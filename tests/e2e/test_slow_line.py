"""A line whose answers are late: the workbench notices by itself, says so, paints less often, and sends nothing while it is idle."""

import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import journals
from tests.support.terminal import Terminal
from tuitune.bus.journal import Journal

RECIPE = "name: demo\ntask: sft\nmodel:\n  name_or_path: x\n"
QUESTION = b"\x1b[6n"
LATE = re.compile(r"slow line \(\d+ ms\)")  # 400 ms and what the box itself takes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    root.mkdir()
    (root / "demo.yaml").write_text(RECIPE)
    return root


@pytest.fixture
def live(folder: Path) -> Iterator[Path]:
    """A run that makes ten steps a second."""
    run = journals.living(journals.write_run(folder / "runs", steps=30, max_steps=100_000, final=None))
    over = threading.Event()

    def train() -> None:
        journal, step = Journal(run / "journal" / "trainer-1.jsonl"), 30
        while not over.wait(0.1):
            step += 1
            journal.emit("metrics", step=step, max_steps=100_000, loss=0.5, step_ms=100)
        journal.close()

    writer = threading.Thread(target=train)
    writer.start()
    yield run
    over.set()
    writer.join()


def start(folder: Path, *before: str, **line: float) -> Terminal:
    command = [*before, sys.executable, "-m", "tuitune", "open", str(folder)]
    return Terminal(command, env={"TUITUNE_WARM_UP": "0"}, home=folder.parent / "home", **line)  # type: ignore[arg-type]


def written(terminal: Terminal) -> bytes:
    return b"".join(data for _, data in terminal.chunks)


def questions(terminal: Terminal) -> int:
    return written(terminal).count(QUESTION)


def test_a_line_with_400_ms_round_trips_is_called_slow_and_a_good_one_again_when_it_is(folder: Path, live: Path) -> None:
    with start(folder, answers_after=0.4) as terminal:
        terminal.wait_for("demo.yaml")
        terminal.send("alt+r")
        terminal.wait_for(LATE)
        terminal.wait_for("painted every 2 s")
        terminal.answers_after = 0.0
        terminal.wait_gone("slow line")
        terminal.wait_gone("painted every 2 s")


def test_an_answer_on_its_way_does_not_reach_the_shell(folder: Path, live: Path) -> None:
    shell = ("sh", "-c", '"$@"; echo it has left; sleep 600', "-")
    with start(folder, *shell, answers_after=0.4) as terminal:
        terminal.wait_for("demo.yaml")
        terminal.send("alt+r")
        terminal.wait_for(LATE)
        before = questions(terminal)
        deadline = time.monotonic() + 60
        while questions(terminal) == before:
            assert time.monotonic() < deadline, "it asked no more"
            time.sleep(0.01)
        terminal.send("ctrl+q")
        terminal.wait_for("it has left")
        terminal.settle(1.0)
        assert b"1;1R" not in written(terminal), "what the terminal answers to nobody is echoed"


def test_an_idle_workbench_asks_nothing_and_one_that_paints_does(folder: Path, live: Path) -> None:
    with start(folder) as terminal:
        terminal.wait_for("demo.yaml")
        terminal.settle(1.0)
        assert questions(terminal) == 0, "no live part has painted"
        terminal.send("alt+r")
        terminal.wait_for("grad")
        deadline = time.monotonic() + 60
        while not questions(terminal):
            assert time.monotonic() < deadline, "it never asked"
            time.sleep(0.05)
