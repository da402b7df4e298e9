"""Two runs of one box and one card: one has it, the other waits or refuses with the owner's name."""

import json
import os
import signal
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.living_hub import LivingHub, until
from tuitune.bus.client import HubClient
from tuitune.bus.sockets import user_folder
from tuitune.hub.launch import resume_run
from tuitune.runs.listing import list_runs
from tuitune.runs.manifest import read_manifest

Start = Callable[..., LivingHub]
GIB = 1 << 30


@pytest.fixture
def on_a_card(hub: Start) -> Callable[..., LivingHub]:
    """Starts runs on a box with one GPU."""
    name = f"GPU-{uuid.uuid4()}"
    cards = json.dumps([{"index": 0, "uuid": name, "mem_used": GIB, "mem_total": 24 * GIB}])

    def start(story: str, launch: str = "{gpus: 1}") -> LivingHub:
        return hub(story, recipe=f"name: demo\nlaunch: {launch}\n", environment={"STORY_CARDS": cards})

    yield start
    (user_folder() / f"{name}.lock").unlink(missing_ok=True)


def states(one: LivingHub) -> list[str]:
    return [str(record.get("why")) for record in one.records("state")]


def visible(one: LivingHub, attempt: int = 1) -> Any:
    return next((record["visible"] for record in one.records("hello") if record["src"] == f"trainer-{attempt}"), None)


def test_the_second_run_refuses_with_the_name_of_the_first(on_a_card: Start) -> None:
    one = on_a_card("long")
    until(one.running)
    two = on_a_card("short")
    assert two.process.wait(20) == 1
    assert f"GPU 0 by {one.run.path}" in str(read_manifest(two.run).why)
    assert "launch.wait: true" in str(read_manifest(two.run).why)
    assert two.records("hello")[0]["src"] == "hub", "it never had a trainer"
    assert not (two.run.log / "1.rank0.txt").exists()


def test_of_runs_that_start_at_the_same_moment_one_gets_the_card(on_a_card: Start) -> None:
    runs = [on_a_card("long") for _ in range(4)]
    until(lambda: sum(one.process.poll() == 1 for one in runs) == 3)
    (winner,) = [one for one in runs if one.process.poll() is None]
    until(winner.running)
    assert str(visible(winner)).startswith("GPU-")
    assert all(str(winner.run.path) in str(read_manifest(one.run).why) for one in runs if one is not winner)


def test_a_run_that_waits_says_for_whom_and_starts_when_the_card_is_free(on_a_card: Start) -> None:
    one = on_a_card("long")
    until(one.running)
    two = on_a_card("short", "{gpus: 1, wait: true}")
    until(lambda: f"waits for a GPU: GPU 0 by {one.run.path}" in states(two))
    assert read_manifest(two.run).state == "starting"
    HubClient(one.run.path).send("stop")
    assert one.process.wait(20) == 0
    assert two.process.wait(20) == 0
    assert read_manifest(two.run).state == "done"
    assert visible(two) == visible(one)


@pytest.mark.parametrize("how", ["stop", "kill", "SIGTERM"])
def test_a_run_that_waits_can_be_ended(on_a_card: Start, how: str) -> None:
    one = on_a_card("long")
    until(one.running)
    two = on_a_card("short", "{gpus: 1, wait: true}")
    until(lambda: any(why.startswith("waits for a GPU") for why in states(two)))
    if how == "SIGTERM":
        two.process.send_signal(signal.SIGTERM)
    else:
        HubClient(two.run.path).send(how)
    assert two.process.wait(20) == 0
    assert (read_manifest(two.run).state, "while it waited for a GPU" in str(read_manifest(two.run).why)) == ("stopped", True)
    if how != "SIGTERM":
        assert [record["ok"] for record in two.records("applied")] == [True]


def test_a_suspended_run_gives_its_card_away_and_names_who_has_it_when_it_cannot_go_on(on_a_card: Start) -> None:
    one = on_a_card("long")
    until(one.running)
    HubClient(one.run.path).send("pause", {"mode": "suspend"})
    until(lambda: read_manifest(one.run).state == "suspended" and read_manifest(one.run).trainer is None)
    two = on_a_card("long")
    until(two.running)
    refused = HubClient(one.run.path).send("resume")
    assert refused["s"] == "failed"
    assert f"GPU 0 by {two.run.path}" in refused["error"]
    assert read_manifest(one.run).state == "suspended"
    HubClient(two.run.path).send("stop")
    assert two.process.wait(20) == 0
    assert resume_run(one.run).attempt == 2
    until(lambda: visible(one, 2) == visible(one))


def test_a_card_stays_taken_as_long_as_the_trainer_lives_though_its_hub_changes(on_a_card: Start) -> None:
    one = on_a_card("long")
    until(one.running)
    one.kill_hub()
    assert on_a_card("short").process.wait(20) == 1, "its trainer has the card"
    one.another_hub("long")
    assert on_a_card("short").process.wait(20) == 1
    os.kill(one.trainer_pid, signal.SIGKILL)
    assert one.process.wait(20) == 1
    until(lambda: list_runs(one.run.path.parent))
    assert on_a_card("short").process.wait(20) == 0
