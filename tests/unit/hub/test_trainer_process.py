"""Which processes are a run's trainer and its leftovers, told by the lock that they hold."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.living_hub import RECIPE, until
from tuitune.errors import UserError
from tuitune.hub import trainer_process
from tuitune.hub.trainer_process import TrainerProcess, find_trainer, holders, start_trainer
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.manifest import Manifest, Process

SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]
WITH_WORKER = """
import os, sys, time
if os.fork():
    time.sleep(60)
os.setsid()  # a worker that the kill of the trainer's group does not reach
print("worker", os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(tmp_path, "demo", RECIPE)


@pytest.fixture
def started(run: RunDirectory) -> Iterator[list[TrainerProcess]]:
    """Trainers to be ended afterwards."""
    found: list[TrainerProcess] = []
    yield found
    for one in found:
        one.kill()
        until(one.ended)
    trainer_process.kill_holders(run.trainer_lock)


def start(run: RunDirectory, started: list[TrainerProcess], command: list[str] = SLEEP) -> TrainerProcess:
    log = run.log / "1.rank0.txt"
    started.append(start_trainer(command, run, log, {}))
    until(lambda: log.exists() and log.read_text())
    return started[-1]


def test_a_trainer_holds_the_runs_lock_and_one_who_reads_the_file_does_not(run: RunDirectory, started: list[TrainerProcess]) -> None:
    one = start(run, started)
    with run.trainer_lock.open() as file:
        reader = subprocess.Popen(SLEEP, stdin=file, stdout=subprocess.PIPE)
    assert reader.stdout is not None
    reader.stdout.readline()
    try:
        assert [process.pid for process in holders(run.trainer_lock)] == [one.pid]
        one.kill()
        until(one.ended)
        trainer_process.kill_holders(run.trainer_lock)
        assert holders(run.trainer_lock) == []
        assert reader.poll() is None, "a backup of the run is not ended with it"
    finally:
        reader.kill()
        reader.communicate()


def test_a_run_has_one_trainer(run: RunDirectory, started: list[TrainerProcess]) -> None:
    one = start(run, started)
    found = find_trainer(run, Manifest("demo", trainer=one.process))
    assert found is not None
    assert (found.pid, found.adopted, found.returncode) == (one.pid, True, None)
    assert not found.ended()
    one.kill()
    until(one.ended)
    assert found.ended()
    assert (one.returncode, found.returncode) == (-9, None), "only the parent learns it"


def test_a_pid_that_means_another_process_by_now_is_not_taken_for_the_trainer(run: RunDirectory) -> None:
    own = Process.of(1)
    assert own is not None
    assert find_trainer(run, Manifest("demo", trainer=Process(1, own.start_ticks - 1))) is None


def test_workers_that_outlive_their_trainer_are_ended_before_the_next_one_starts(run: RunDirectory, started: list[TrainerProcess]) -> None:
    one = start(run, started, [sys.executable, "-c", WITH_WORKER])
    worker = Process.of(int((run.log / "1.rank0.txt").read_text().split()[1]))
    assert worker is not None
    one.kill()
    until(one.ended)
    assert worker.alive()
    two = start(run, started)
    assert not worker.alive()
    assert not two.ended()


def test_a_lock_that_nobody_on_this_box_holds_open_is_told(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_process, "LEFTOVERS_S", 0.1)
    with run.trainer_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"does not end \(processes: another box\); end it and resume"):
            start_trainer(SLEEP, run, run.log / "1.rank0.txt", {})


def test_a_trainer_that_cannot_be_started_leaves_the_lock_free(run: RunDirectory) -> None:
    for _ in range(2):
        with pytest.raises(UserError, match="could not be started"):
            start_trainer(["/nonexistent"], run, run.log / "1.rank0.txt", {})
    assert holders(run.trainer_lock) == []


def test_the_lock_of_a_run_that_never_had_a_trainer_has_no_holder(run: RunDirectory) -> None:
    assert holders(run.trainer_lock) == []
    assert find_trainer(run, Manifest("demo")) is None
