"""Hub and trainer are killed at seeded times, again and again: the run comes to its end, with every step trained in order.

TUITUNE_KILLS=50 makes a longer one (5 by default).
"""

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.living_hub import LivingHub, until
from tuitune.bus.client import HubClient
from tuitune.bus.journal import JournalTail
from tuitune.errors import UserError
from tuitune.hub.trainer_process import holders
from tuitune.runs.checkpoints import is_complete, step_of
from tuitune.runs.manifest import Process, read_manifest

KILLS = int(os.environ.get("TUITUNE_KILLS", "5"))


def kill(process: Process | None) -> None:
    if process is not None and process.alive():
        os.kill(process.pid, signal.SIGKILL)


def ask(one: LivingHub, id: str) -> None:
    """A command that may or may not get through."""
    try:
        HubClient(one.run.path).send("save", id=id, wait_s=0.2)
    except UserError:
        pass  # nobody was there to take it


@pytest.mark.timeout(60 + 20 * KILLS)
@pytest.mark.parametrize("seed", [7, 11])
def test_a_run_comes_to_its_end_however_often_its_processes_are_killed(hub: Callable[..., LivingHub], seed: int) -> None:
    dice = random.Random(seed)
    one = hub("course")
    for number in range(KILLS):
        until(lambda: one.run.connection.exists() or one.process.poll() is not None)
        ask(one, f"save-{number}")
        one.process_waits(dice.uniform(0.0, 0.6))
        own, trainer = one.hub, read_manifest(one.run).trainer
        for victim in dice.choice([[own], [trainer], [own, trainer], [trainer, own]]):
            kill(victim)
        one.process.wait(20)  # a hub that was spared tells how its trainer ended
        if read_manifest(one.run).state == "done":
            break
        one.another_hub("course")
    one.process.wait(60)
    until(lambda: read_manifest(one.run).state == "done")
    assert_whole(one)


def assert_whole(one: LivingHub) -> None:
    """What the journals say of a run that was killed many times."""
    manifest = read_manifest(one.run)
    assert (manifest.state, manifest.step) == ("done", 200)
    assert holders(one.run.trainer_lock) == [], "nobody is left"
    reached = 0
    for attempt in range(1, manifest.attempt + 1):
        tail = JournalTail(one.run.journal, only=f"trainer-{attempt}")
        records = tail.poll()
        assert [record["n"] for record in records] == list(range(len(records))), "no record is lost or out of order"
        steps = [record["step"] for record in records if record["ev"] == "metrics"]
        began = next((record["step"] for record in records if record["ev"] == "seam"), 0)
        assert steps == list(range(began + 1, began + 1 + len(steps)))
        assert began <= reached, "it goes on from what an attempt before it has saved"
        reached = max([reached, *steps])
        folder = Path(f"checkpoint-{began}")
        assert not began or (step_of(folder) == began and is_complete(one.run.checkpoints / folder))
    assert reached == 200
    done = [record["id"] for record in one.records("applied") if record["ok"]]
    assert len(done) == len(set(done)), "no command is carried out twice"
