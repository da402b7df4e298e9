"""The hub with a stand-in trainer: what a run tells, how commands travel, how a run ends, and what it survives."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.living_hub import ROOT, LivingHub, until
from tests.support.nvml_stub import COMPILER, build_nvml, nvml_environment
from tuitune.bus.client import HubClient
from tuitune.bus.journal import JournalTail
from tuitune.bus.sockets import socket_folder
from tuitune.errors import UserError
from tuitune.hub.follow import follow
from tuitune.hub.supervisor import supervise
from tuitune.hub.wishes import wanted_gpus
from tuitune.runs.directory import create_run
from tuitune.runs.listing import list_runs
from tuitune.runs.manifest import Process, read_manifest

Start = Callable[..., LivingHub]
GIB = 1 << 30


def crash_of(hub: LivingHub) -> dict:
    (crash,) = hub.records("crash")
    return crash


def refusal(hub: LivingHub) -> str:
    """What a second hub on this run says."""
    with pytest.raises(UserError) as refused:
        supervise(hub.run.path)
    return str(refused.value)


# --- the story of a run -----------------------------------------------------------------------------------------------------------


def test_a_run_tells_its_whole_story_and_leaves_nothing_behind(hub: Start) -> None:
    one = hub("short")
    seen = list(follow(one.run))
    assert one.process.wait(20) == 0
    assert [record["s"] for record in seen if record["ev"] == "state"] == ["starting", "running", "done", "done"]
    assert [record["step"] for record in seen if record["ev"] == "metrics"] == [1, 2, 3]
    assert "hello from the trainer" in [record["text"] for record in seen if record["ev"] == "log"]
    assert seen[-1]["ev"] == "end"
    manifest = read_manifest(one.run)
    assert (manifest.state, manifest.step, manifest.max_steps) == ("done", 3, 3)
    assert manifest.ended is not None
    assert not one.run.connection.exists()
    folder = socket_folder(one.run.path)
    assert list(folder.iterdir()) == []
    folder.rmdir()
    assert list(follow(one.run)) == seen, "who follows it later sees the same"


def test_the_last_step_counts_though_it_was_not_logged(hub: Start) -> None:
    one = hub("sparse")
    assert one.process.wait(20) == 0
    manifest = read_manifest(one.run)
    assert (manifest.state, manifest.step, manifest.max_steps) == ("done", 3, 3)


def test_gpus_and_host_are_told_once_a_second_and_a_box_without_gpus_says_so_once(hub: Start) -> None:
    one = hub("long", environment={"LD_LIBRARY_PATH": "/nonexistent"})
    until(lambda: len(one.records("host")) >= 3)
    first, second, *_ = [record["t"] for record in one.records("host")]
    assert second - first > 0.9
    assert one.records("host")[-1]["tree_rss"] > 1 << 20
    assert one.records("host")[-1]["ram_total"] > one.records("host")[-1]["tree_rss"]
    if not shutil.which("nvidia-smi"):
        assert len(one.records("gpu")) == 1


def test_a_second_viewer_sees_all_of_it_and_a_stopped_one_holds_nobody_up(hub: Start) -> None:
    one = hub("long")
    until(one.running)
    command = [sys.executable, "-m", "tuitune", "attach", str(one.run.path), "--json"]
    viewer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    killed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    viewer.send_signal(signal.SIGSTOP)
    killed.kill()
    killed.wait()
    count = len(one.records())
    until(lambda: len(one.records()) > count + 10)
    viewer.send_signal(signal.SIGCONT)
    HubClient(one.run.path).send("stop")
    out, _ = viewer.communicate(timeout=30)
    steps = [record["step"] for line in out.splitlines() if (record := json.loads(line))["ev"] == "metrics"]
    assert viewer.returncode == 0
    assert steps == list(range(1, len(steps) + 1))


def test_secrets_that_the_trainer_prints_or_journals_reach_no_journal(hub: Start) -> None:
    one = hub("secrets", environment={"STORY_PASSWORD": "correct-horse-battery"})
    assert one.process.wait(20) == 0
    journals = b"".join(path.read_bytes() for path in one.run.journal.iterdir())
    assert b"correct-horse" not in journals
    assert b"hf_abcdefgh" not in journals
    assert "password ••• token •••" in [record["text"] for record in one.records("log")]
    assert [record["text"] for record in one.records("warning")] == ["password ••• token •••"]


@pytest.mark.parametrize(
    ("recipe", "wanted"),
    [
        ("launch: {gpus: cpu}\n", "cpu"),
        ("training: {use_cpu: true}\n", "cpu"),
        ("launch: {gpus: 1}\ntraining: {use_cpu: true}\n", "cpu"),
        ("training: {use_cpu: auto}\n", None),
        ("launch: {gpus: }\n", None),
        ("launch: {gpus: auto}\n", "auto"),
        ("launch: none\ntraining: [1]\n", None),
        ("name: x\n", None),
    ],
)
def test_what_the_recipe_says_of_gpus(tmp_path: Path, recipe: str, wanted: object) -> None:
    assert wanted_gpus(create_run(tmp_path, "demo", recipe)) == wanted


# --- commands ---------------------------------------------------------------------------------------------------------------------


def test_stop_is_queued_at_once_applied_at_a_step_and_ends_the_run(hub: Start) -> None:
    one = hub("long")
    until(one.running)
    reply = HubClient(one.run.path).send("stop", {"save": True}, until="applied")
    assert reply["s"] == "applied"
    assert reply["step"] >= 1
    assert one.process.wait(20) == 0
    assert (read_manifest(one.run).state, read_manifest(one.run).why) == ("stopped", "stop by stop")
    ops = [(record["ev"], record["op"]) for record in one.records() if record["ev"] in ("command", "applied")]
    assert ops == [("command", "stop"), ("applied", "stop")]


def test_the_same_id_is_answered_again_and_applied_once(hub: Start) -> None:
    one = hub("long")
    until(one.running)
    first = HubClient(one.run.path).send("save", id="save-1", until="applied")
    again = HubClient(one.run.path).send("save", id="save-1", until="applied")
    assert first == again
    assert len(one.records("applied")) == 1


def test_a_command_left_as_a_file_is_carried_out_and_answered(hub: Start) -> None:
    one = hub("long")
    until(one.running)
    connection = json.loads(one.run.connection.read_text())
    one.run.connection.write_text(json.dumps({**connection, "host": "the-login-node"}))
    (one.run.commands / "broken.json").write_text("{")
    refused = HubClient(one.run.path).send("levitate")
    assert (refused["s"], refused["via"]) == ("failed", "file")
    reply = HubClient(one.run.path).send("stop", until="applied")
    assert (reply["s"], reply["via"]) == ("applied", "file")
    assert one.process.wait(20) == 0
    assert read_manifest(one.run).state == "stopped"
    assert list(one.run.commands.iterdir()) == []


def test_kill_ends_the_trainer_and_names_who_asked(hub: Start) -> None:
    one = hub("deaf")
    until(one.running)
    assert HubClient(one.run.path).send("kill")["s"] == "applied"
    assert one.process.wait(20) == 1
    crash = crash_of(one)
    assert (crash["class"], crash["signal"]) == ("killed", "SIGKILL")
    assert "asked" in crash["hint"]
    assert [record["ok"] for record in one.records("applied")] == [True]
    assert read_manifest(one.run).state == "failed"


# --- ends -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("story", "kind"), [("oom", "gpu_oom"), ("killed", "killed"), ("segfault", "native_crash")])
def test_a_death_has_a_class_a_hint_and_a_failed_state(hub: Start, story: str, kind: str) -> None:
    one = hub(story)
    assert one.process.wait(20) == 1
    crash = crash_of(one)
    assert crash["class"] == kind
    assert (read_manifest(one.run).state, read_manifest(one.run).why) == ("failed", crash["hint"])
    assert any("hello from the trainer" in line for line in crash["tail"])


def test_a_native_crash_carries_the_stack_of_the_moment(hub: Start) -> None:
    one = hub("segfault")
    assert one.process.wait(20) == 1
    assert "stand_in_trainer.py" in crash_of(one)["traceback"]


def test_an_error_of_the_users_own_is_its_sentence_and_no_crash(hub: Start) -> None:
    one = hub("user-error")
    assert one.process.wait(20) == 1
    assert read_manifest(one.run).why == "data.jsonl: row 3 is not JSON; mend or remove it"
    assert one.records("crash") == []


def test_a_trainer_that_breaks_down_while_it_leaves_has_done_its_work(hub: Start) -> None:
    one = hub("late-crash")
    assert one.process.wait(20) == 0
    assert read_manifest(one.run).state == "done"
    assert one.records("crash") == []
    assert "broke down while it left" in one.records("warning")[0]["text"]


def test_what_a_dead_trainer_leaves_running_is_ended(hub: Start) -> None:
    one = hub("worker")
    line = until(lambda: next((record["text"] for record in one.records("log") if record["text"].startswith("worker")), None))
    worker = Process.of(int(line.split()[1]))
    assert one.process.wait(20) == 1
    assert worker is None or not worker.alive()


def test_the_end_is_told_even_when_the_trainers_journal_is_full(hub: Start) -> None:
    """No file of this run may pass 20 KB: both journals lose records, nobody dies of it, and the end is known from the exit status."""
    one = hub("quick", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
    assert one.process.wait(30) == 0
    manifest = read_manifest(one.run)
    assert manifest.state == "done"
    assert "disk full" in str(manifest.why)
    assert len(one.records("metrics")) < 2_000
    tail = JournalTail(one.run.journal)
    tail.poll()
    assert tail.torn <= 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB under the folder of the runs."""
    disk = tmp_path / "runs"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(path: Path) -> None:
    """Write until nothing fits any more."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_disk_that_has_filled_up_does_not_cost_the_end_of_the_story(small_disk: Path, hub: Start) -> None:
    """Filled to the last byte while the run lives: it is known as failed, and not as lost."""
    one = hub("long")
    until(one.running)
    fill(small_disk / "filler")
    os.kill(one.trainer_pid, signal.SIGKILL)
    assert one.process.wait(30) == 1
    assert read_manifest(one.run).state == "failed"
    assert one.records("end")[-1]["reason"] == "failed"
    assert not (one.run.path / ".reserve").exists()


# --- what it survives -------------------------------------------------------------------------------------------------------------


def test_when_ram_runs_out_the_kernel_takes_the_trainer_before_the_hub(hub: Start) -> None:
    one = hub("long")
    until(one.running)
    trainer, own = (int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (one.trainer_pid, one.process.pid))
    assert trainer > own


def test_a_hang_up_does_not_reach_the_hub_and_sigterm_saves_and_stops(hub: Start) -> None:
    one = hub("long")
    until(one.running)
    one.process.send_signal(signal.SIGHUP)
    count = len(one.records())
    until(lambda: len(one.records()) > count + 5)
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(20) == 0
    assert read_manifest(one.run).state == "stopped"
    assert "stopping" in [record["s"] for record in one.records("state") if record["src"] == "hub"]


def test_sigterm_before_the_trainer_listens_stops_a_run_that_has_not_begun(hub: Start) -> None:
    one = hub("early")
    until(lambda: one.records("log"))
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(20) == 0
    assert (read_manifest(one.run).state, one.records("crash")) == ("stopped", [])


def test_a_stop_command_ends_a_trainer_that_still_loads(hub: Start) -> None:
    one = hub("early")
    until(lambda: one.records("log"))
    HubClient(one.run.path).send("stop")
    assert one.process.wait(20) == 0
    assert (read_manifest(one.run).state, one.records("crash")) == ("stopped", [])


def test_a_pipe_left_as_a_command_holds_nobody_up(hub: Start) -> None:
    one = hub("long")
    until(one.running)
    os.mkfifo(one.run.commands / "zz.json")
    time.sleep(1.5)
    assert HubClient(one.run.path).send("stop")["s"] == "queued"
    assert one.process.wait(20) == 0


def test_a_second_sigterm_does_not_wait_for_a_deaf_trainer(hub: Start) -> None:
    one = hub("deaf")
    until(one.running)
    one.process.send_signal(signal.SIGTERM)
    until(lambda: "stopping" in [record["s"] for record in one.records("state")])
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(20) == 1
    assert crash_of(one)["class"] == "killed"


def test_a_killed_hub_leaves_the_trainer_training_and_its_end_is_known(hub: Start) -> None:
    one = hub("long")
    until(one.running)
    trainer = one.trainer_pid
    one.process.kill()
    one.process.wait()
    step = one.records("metrics")[-1]["step"]
    until(lambda: (list_runs(one.run.path.parent)[0].step or 0) > step + 5)
    assert list_runs(one.run.path.parent)[0].state == "running"
    with pytest.raises(UserError, match=r"is gone .*tuitune resume demo-"):
        HubClient(one.run.path).send("stop")
    os.kill(trainer, signal.SIGTERM)  # it saves and ends by itself, and nobody but its journal tells
    until(lambda: list_runs(one.run.path.parent)[0].state == "stopped")
    assert list(follow(one.run))[-1]["ev"] == "end"


def test_a_pair_that_died_without_a_word_is_called_lost(hub: Start) -> None:
    one = hub("long")
    until(one.running)
    trainer = one.trainer_pid
    one.process.kill()
    one.process.wait()
    os.kill(trainer, signal.SIGKILL)
    until(lambda: list_runs(one.run.path.parent)[0].state == "lost")
    assert list(follow(one.run))[-1]["s"] == "lost"


def test_a_second_hub_on_the_same_run_is_refused(hub: Start) -> None:
    one = hub("long")
    until(one.running)
    assert "tuitune attach" in refusal(one)


def test_a_folder_that_is_no_run_is_refused_in_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tuitune.hub", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 1
    assert "no run" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- GPUs -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(COMPILER is None, reason="no C compiler to build the stand-in NVML with")
def test_a_run_takes_a_gpu_shows_it_to_its_trainer_alone_and_keeps_it_as_long_as_the_trainer_lives(hub: Start, tmp_path: Path) -> None:
    uuid_of_card = f"GPU-{uuid.uuid4()}"
    values = tmp_path / "values.txt"
    card = f"init 0\ncount 1\n0.uuid {uuid_of_card}\n0.name Test card\n0.used {GIB}\n0.total {24 * GIB}\n0.util 50\n0.processes 0\n"
    values.write_text(card)
    options = {"recipe": "name: demo\n", "environment": nvml_environment(build_nvml(tmp_path), values)}
    one = hub("long", **options)
    until(one.running)
    assert next(record["visible"] for record in one.records("hello") if record["src"] == "trainer-1") == uuid_of_card
    values.write_text(card + f"0.process {one.trainer_pid} {5 * GIB}\n0.process 1 {GIB}\n")
    device = until(lambda: next((r["devices"][0] for r in one.records("gpu") if r["devices"][0]["proc_mem"]), None))
    assert (device["proc_mem"], [other["pid"] for other in device["others"]]) == (5 * GIB, [1])

    two = hub("short", **options)
    assert two.process.wait(20) == 1
    assert one.run.name in str(read_manifest(two.run).why)
    one.process.kill()
    one.process.wait()
    three = hub("short", **options)
    assert three.process.wait(20) == 1, "the hub is dead, but its trainer still has the card"
    os.kill(one.trainer_pid, signal.SIGKILL)
    until(lambda: list_runs(one.run.path.parent)[-1].state == "lost")
    four = hub("short", **options)
    assert four.process.wait(20) == 0
