"""The hub with a stand-in trainer: what a run tells, how commands travel, and what it survives."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tuitune.bus.client import HubClient
from tuitune.bus.journal import JournalTail
from tuitune.errors import UserError
from tuitune.hub.follow import follow
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.listing import find_run, list_runs
from tuitune.runs.manifest import Manifest, read_manifest, write_manifest

ROOT = Path(__file__).parents[3]
RECIPE = "name: demo\nlaunch: {gpus: cpu}\n"


def until(condition: Callable[[], object], seconds: float = 20.0) -> object:
    """The first true value of `condition`, or a failure after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("that never came true")


class Hub:
    """A hub in a process of its own, with a story for its trainer."""

    def __init__(self, root: Path, story: str, environment: dict[str, str] | None = None) -> None:
        self.run = create_run(root, "demo", RECIPE)
        write_manifest(self.run, Manifest(name="demo", recipe_path=str(root / "demo.yaml"), workspace=str(root)))
        code = (
            "import sys; from pathlib import Path; from tuitune.hub.supervisor import supervise;"
            "sys.exit(supervise(Path(sys.argv[1]), [sys.executable, '-m', 'tests.support.stand_in_trainer', sys.argv[1], sys.argv[2]]))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(self.run.path), story],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )

    def records(self) -> list[dict]:
        return JournalTail(self.run.journal).poll()

    def states(self) -> list[str]:
        return [record["s"] for record in self.records() if record["ev"] == "state"]

    def running(self) -> bool:
        return any(record["ev"] == "metrics" for record in self.records())


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    hubs: list[Hub] = []

    def start(story: str, **options: dict[str, str]) -> Hub:
        hubs.append(Hub(tmp_path / "runs", story, **options))
        return hubs[-1]

    yield start
    for one in hubs:
        trainer = read_manifest(one.run).trainer
        for pid in (one.process.pid, trainer.pid if trainer else None):
            if pid is not None:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        one.process.wait()


def test_a_run_tells_its_whole_story_and_leaves_nothing_behind(hub: Callable[..., Hub]) -> None:
    one = hub("short")
    seen = list(follow(one.run))
    assert one.process.wait(20) == 0
    assert [record["s"] for record in seen if record["ev"] == "state"] == ["starting", "running", "done", "done"]
    assert [record["step"] for record in seen if record["ev"] == "metrics"] == [1, 2, 3]
    assert "hello from the trainer" in [record["text"] for record in seen if record["ev"] == "log"]
    manifest = read_manifest(one.run)
    assert (manifest.state, manifest.step, manifest.max_steps) == ("done", 3, 3)
    assert manifest.ended is not None
    assert not one.run.connection.exists()
    assert one.run.path.stat().st_mode & 0o777 == 0o700


def test_stop_is_queued_at_once_applied_at_a_step_and_ends_the_run(hub: Callable[..., Hub]) -> None:
    one = hub("long")
    until(one.running)
    reply = HubClient(one.run.path).send("stop", {"save": True}, until="applied")
    assert reply["s"] == "applied"
    assert reply["step"] >= 1
    assert one.process.wait(20) == 0
    assert read_manifest(one.run).state == "stopped"
    ops = [(record["ev"], record["op"]) for record in one.records() if record["ev"] in ("command", "applied")]
    assert ops == [("command", "stop"), ("applied", "stop")]


def test_the_same_id_is_answered_again_and_applied_once(hub: Callable[..., Hub]) -> None:
    one = hub("long")
    until(one.running)
    first = HubClient(one.run.path).send("save", id="save-1", until="applied")
    again = HubClient(one.run.path).send("save", id="save-1", until="applied")
    assert first == again
    assert sum(record["ev"] == "applied" for record in one.records()) == 1


def test_what_no_hub_knows_is_refused_with_what_it_does_know(hub: Callable[..., Hub]) -> None:
    one = hub("long")
    until(one.running)
    reply = HubClient(one.run.path).send("levitate")
    assert reply["s"] == "failed"
    assert "stop" in reply["error"]


def test_a_command_left_as_a_file_is_carried_out(hub: Callable[..., Hub]) -> None:
    one = hub("long")
    until(one.running)
    connection = json.loads(one.run.connection.read_text())
    one.run.connection.write_text(json.dumps({**connection, "host": "the-login-node"}))
    assert HubClient(one.run.path).send("stop")["via"] == "file"
    assert one.process.wait(20) == 0
    assert read_manifest(one.run).state == "stopped"


def test_kill_ends_the_trainer_and_says_that_somebody_did(hub: Callable[..., Hub]) -> None:
    one = hub("long")
    until(one.running)
    assert HubClient(one.run.path).send("kill")["s"] == "applied"
    assert one.process.wait(20) == 1
    crash = next(record for record in one.records() if record["ev"] == "crash")
    assert (crash["class"], crash["signal"]) == ("killed", "SIGKILL")


@pytest.mark.parametrize(("story", "kind"), [("oom", "gpu_oom"), ("killed", "killed"), ("segfault", "native_crash")])
def test_a_death_has_a_class_a_hint_and_a_failed_state(hub: Callable[..., Hub], story: str, kind: str) -> None:
    one = hub(story)
    assert one.process.wait(20) == 1
    crash = next(record for record in one.records() if record["ev"] == "crash")
    assert crash["class"] == kind
    assert read_manifest(one.run).state == "failed"
    assert read_manifest(one.run).why == crash["hint"]


def test_an_error_of_the_users_own_is_its_sentence_and_no_crash(hub: Callable[..., Hub]) -> None:
    one = hub("user-error")
    assert one.process.wait(20) == 1
    assert read_manifest(one.run).why == "data.jsonl: row 3 is not JSON; mend or remove it"
    assert not [record for record in one.records() if record["ev"] == "crash"]


def test_a_hang_up_does_not_reach_the_hub_and_sigterm_saves_and_stops(hub: Callable[..., Hub]) -> None:
    one = hub("long")
    until(one.running)
    one.process.send_signal(signal.SIGHUP)
    count = len(one.records())
    until(lambda: len(one.records()) > count + 5)
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(20) == 0
    assert read_manifest(one.run).state == "stopped"


def test_a_killed_hub_leaves_the_trainer_alive_and_a_dead_pair_is_called_lost(hub: Callable[..., Hub]) -> None:
    one = hub("long")
    until(one.running)
    trainer = read_manifest(one.run).trainer
    assert trainer is not None
    one.process.kill()
    one.process.wait()
    count = len(one.records())
    until(lambda: len(one.records()) > count + 5)
    assert list_runs(one.run.path.parent)[0].state == "running"
    os.kill(trainer.pid, signal.SIGKILL)
    until(lambda: list_runs(one.run.path.parent)[0].state == "lost")
    assert list(follow(one.run))[-1]["s"] == "lost"


def test_a_second_hub_on_the_same_run_is_refused(hub: Callable[..., Hub]) -> None:
    from tuitune.hub.supervisor import supervise

    one = hub("long")
    until(one.running)
    with pytest.raises(UserError, match="attach"):
        supervise(one.run.path)


def test_a_second_viewer_sees_all_of_it_and_a_stopped_one_holds_nobody_up(hub: Callable[..., Hub]) -> None:
    one = hub("long")
    until(one.running)
    viewer = subprocess.Popen(
        [sys.executable, "-m", "tuitune", "attach", str(one.run.path), "--json"], cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    viewer.send_signal(signal.SIGSTOP)
    count = len(one.records())
    until(lambda: len(one.records()) > count + 10)
    viewer.send_signal(signal.SIGCONT)
    HubClient(one.run.path).send("stop")
    out, _ = viewer.communicate(timeout=30)
    steps = [record["step"] for line in out.splitlines() if (record := json.loads(line))["ev"] == "metrics"]
    assert viewer.returncode == 0
    assert steps == list(range(1, len(steps) + 1))


def test_secrets_in_the_trainers_output_never_reach_the_journal(tmp_path: Path) -> None:
    from tuitune.hub.log_tail import LogTail
    from tuitune.secrets import Masker

    path = tmp_path / "log.txt"
    path.write_bytes(b"token hf_abcdefghijklmnop and my-password-1\n 10%|#\r 20%|##\r100%|###\n\x1b[31mred\n")
    tail = LogTail(path, Masker({"DB_PASSWORD": "my-password-1"}))
    assert [text for _, text in tail.poll()] == ["token ••• and •••", "100%|###", "␛[31mred"]


def test_a_run_is_found_by_a_beginning_and_the_candidates_are_named(tmp_path: Path) -> None:
    names = [create_run(tmp_path, name, RECIPE).name for name in ("alpha", "beta")]
    for name in names:
        write_manifest(RunDirectory(tmp_path / name), Manifest(name=name, state="done"))
    assert find_run(tmp_path, "alp").name == names[0]
    with pytest.raises(UserError, match="beta"):
        find_run(tmp_path, "gamma")
    (tmp_path / names[1] / "manifest.json").write_text("{")
    assert [run.state for run in list_runs(tmp_path) if run.id == names[1]] == ["unreadable"]
