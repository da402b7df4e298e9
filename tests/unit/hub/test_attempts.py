"""A run that goes on: the next attempt from the newest whole checkpoint, a hub that takes over a living trainer, suspend, retry."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.living_hub import ROOT, LivingHub, until
from tuitune.bus.client import HubClient
from tuitune.errors import UserError
from tuitune.hub import launch
from tuitune.hub.supervisor import supervise
from tuitune.runs.checkpoints import checkpoints_of, is_complete, step_of
from tuitune.runs.listing import list_runs
from tuitune.runs.manifest import ENDED, Manifest, read_manifest, write_manifest
from tuitune.workbench.run_reduce import reduce
from tuitune.workbench.run_state import RunState

Start = Callable[..., LivingHub]


def state_of(hub: LivingHub) -> str:
    return list_runs(hub.run.path.parent)[0].state


def steps_of(hub: LivingHub, attempt: int) -> list[int]:
    return [record["step"] for record in hub.records("metrics") if record["src"] == f"trainer-{attempt}"]


def starting(hub: LivingHub) -> list[dict[str, Any]]:
    """The hub's announcements of later attempts."""
    return [
        record for record in hub.records("state") if record["src"] == "hub" and record["s"] == "starting" and record.get("attempt", 1) > 1
    ]


def saved(hub: LivingHub, step: int = 10) -> bool:
    return any(record["step"] >= step for record in hub.records("checkpoint"))


def lose(hub: LivingHub) -> None:
    """Hub and trainer die without a word."""
    trainer = hub.trainer_pid
    hub.kill_hub()
    os.kill(trainer, signal.SIGKILL)
    until(lambda: state_of(hub) == "lost")


# --- the next attempt -------------------------------------------------------------------------------------------------------------


def test_a_lost_run_goes_on_from_its_newest_whole_checkpoint(hub: Start) -> None:
    one = hub("saves,short")
    until(lambda: saved(one, 20))
    lose(one)
    newest = max(record["step"] for record in one.records("checkpoint"))
    one.another_hub("saves,saves")
    until(lambda: steps_of(one, 2) and state_of(one) == "running")
    manifest = read_manifest(one.run)
    assert (manifest.attempt, manifest.resume_from, manifest.state, manifest.ended) == (2, f"checkpoint-{newest}", "running", None)
    assert steps_of(one, 2)[0] == newest + 1
    assert starting(one)[0]["why"] == f"attempt 2 from checkpoint-{newest}"
    assert (one.run.log / "2.rank0.txt").read_text().startswith("hello from the trainer")
    HubClient(one.run.path).send("stop")
    assert one.process.wait(20) == 0
    assert read_manifest(one.run).state == "stopped"


def test_a_checkpoint_that_was_damaged_later_is_passed_over_for_the_one_before_and_everybody_is_told(hub: Start) -> None:
    one = hub("saves,saves")
    until(lambda: saved(one, 20))
    lose(one)
    newest = max(step_of(folder) or 0 for folder in checkpoints_of(one.run) if is_complete(folder))
    weights = one.run.checkpoints / f"checkpoint-{newest}" / "weights"
    weights.write_text(weights.read_text().replace("of", "0f"))
    one.another_hub("saves,saves")
    until(lambda: steps_of(one, 2))
    manifest = read_manifest(one.run)
    assert manifest.resume_from == f"checkpoint-{newest - 10}"
    (sentence,) = manifest.passed_over
    assert sentence.startswith(f"checkpoint-{newest}/weights is not what was written there: its sha256 is ")
    assert sentence in one.records("warning")[-1]["text"]
    assert starting(one)[0]["why"].startswith(f"attempt 2 from checkpoint-{newest - 10} (")
    assert one.records("seam")[0]["changed"] == [sentence]
    assert sentence in launch._resumed(one.run, manifest).words


def test_what_was_set_after_the_checkpoint_is_told_when_it_goes_on_without_it(hub: Start) -> None:
    one = hub("stuck,long")
    until(lambda: steps_of(one, 1)[-1:] == [4])
    HubClient(one.run.path).send("set", {"key": "learning_rate", "value": 1e-4})
    (one.run.path / "go-on").touch()
    until(lambda: one.records("applied"))
    lose(one)
    one.another_hub("stuck,long")
    (warning,) = until(lambda: one.records("warning"))
    assert "learning_rate None → 0.0001 (set by " in warning["text"]
    assert warning["text"].endswith("Set it again if you still want it")


def test_a_checkpoint_without_the_mark_is_passed_over_and_named(hub: Start) -> None:
    one = hub("late-kill,short")
    assert one.process.wait(20) == 1
    (one.run.checkpoints / "checkpoint-15").mkdir()
    (one.run.checkpoints / "checkpoint-15" / "weights").write_text("half of th")
    one.another_hub("late-kill,long")
    until(lambda: steps_of(one, 2))
    assert steps_of(one, 2)[0] == 11
    assert starting(one)[0]["why"] == "attempt 2 from checkpoint-10 (checkpoint-15 is later, but not whole)"


def test_a_run_without_a_checkpoint_starts_from_the_beginning_and_says_so(hub: Start) -> None:
    one = hub("segfault,short")
    assert one.process.wait(20) == 1
    one.another_hub("segfault,short")
    assert one.process.wait(20) == 0
    manifest = read_manifest(one.run)
    assert (manifest.state, manifest.why, manifest.resume_from, manifest.attempt) == ("done", None, None, 2)
    assert starting(one)[0]["why"] == "attempt 2 from the beginning: it has no checkpoint yet"
    assert steps_of(one, 2) == [1, 2, 3]


def test_a_run_that_has_done_its_steps_does_not_go_on(hub: Start) -> None:
    one = hub("short")
    assert one.process.wait(20) == 0
    with pytest.raises(UserError, match="does not go on: it has done all of its 3 steps"):
        supervise(one.run.path)
    assert read_manifest(one.run).state == "done"


def test_what_a_dead_trainer_was_asked_and_never_answered_is_not_done_by_the_next(hub: Start) -> None:
    one = hub("early,long")
    until(lambda: one.records("log"))
    assert HubClient(one.run.path).send("save", id="late")["s"] == "queued"
    os.kill(one.trainer_pid, signal.SIGKILL)
    lost = one.trainer_pid
    one.kill_hub()
    until(lambda: not os.path.exists(f"/proc/{lost}/fd"))
    one.another_hub("early,long")
    until(lambda: steps_of(one, 2))
    answer = HubClient(one.run.path).send("save", id="late")
    assert (answer["s"], answer["error"]) == ("failed", "the trainer ended before it came to this")


# --- a hub that takes over --------------------------------------------------------------------------------------------------------


def test_a_new_hub_adopts_the_living_trainer_and_commands_reach_it(hub: Start) -> None:
    one = hub("long")
    until(one.running)
    trainer = one.trainer_pid
    HubClient(one.run.path).send("save", id="before", until="applied")
    one.kill_hub()
    one.another_hub("long")
    manifest = read_manifest(one.run)
    assert (one.trainer_pid, manifest.attempt, manifest.hub.pid) == (trainer, 1, one.process.pid)
    reply = HubClient(one.run.path).send("save", id="after", until="applied", wait_s=20)
    assert reply["s"] == "applied"
    assert HubClient(one.run.path).send("save", id="before")["s"] == "applied", "the answer to an old id is still known"
    HubClient(one.run.path).send("stop")
    assert one.process.wait(20) == 0
    assert read_manifest(one.run).state == "stopped"
    steps = steps_of(one, 1)
    assert steps == list(range(1, len(steps) + 1)), "it never noticed"
    assert sorted(record["id"] for record in one.records("applied") if record["op"] == "save") == ["after", "before"]
    assert [record["text"] for record in one.records("log")].count("hello from the trainer") == 1, "no line is told twice"
    assert one.records("crash") == []


def test_a_command_taken_by_a_hub_that_died_is_carried_out_once_by_the_next(hub: Start) -> None:
    one = hub("stuck")
    until(lambda: one.running() and steps_of(one, 1)[-1] == 4)
    assert HubClient(one.run.path).send("save", id="queued")["s"] == "queued"
    one.kill_hub()
    one.another_hub("stuck")
    assert HubClient(one.run.path).send("save", id="queued")["s"] == "queued"
    (one.run.path / "go-on").touch()
    assert HubClient(one.run.path).send("save", id="queued", until="applied", wait_s=20)["step"] >= 5
    assert [record["id"] for record in one.records("applied")] == ["queued"]
    assert [record["id"] for record in one.records("command")] == ["queued"]


def test_the_end_of_an_adopted_trainer_is_told_without_its_exit_status(hub: Start) -> None:
    one = hub("saves")
    until(lambda: saved(one))
    one.kill_hub()
    one.another_hub("saves")
    os.kill(one.trainer_pid, signal.SIGKILL)
    assert one.process.wait(20) == 1
    (crash,) = one.records("crash")
    assert (crash["class"], crash["rc"], crash["signal"]) == ("vanished", None, None)
    assert read_manifest(one.run).state == "failed"


def test_an_adopted_trainer_that_leaves_a_traceback_is_classified_by_it(hub: Start) -> None:
    one = hub("stuck")
    until(lambda: steps_of(one, 1)[-1:] == [4])
    one.kill_hub()
    with (one.run.log / "1.rank0.txt").open("a") as log:
        log.write("Traceback (most recent call last):\n  File x\ntorch.OutOfMemoryError: CUDA out of memory.\n")
    one.another_hub("stuck")
    os.kill(one.trainer_pid, signal.SIGKILL)
    assert one.process.wait(20) == 1
    assert one.records("crash")[0]["class"] == "gpu_oom"


def test_a_trainer_that_the_manifest_does_not_know_yet_is_found_by_its_lock(hub: Start) -> None:
    """The hub was killed between starting it and writing down its pid."""
    one = hub("long")
    until(one.running)
    trainer = one.trainer_pid
    one.kill_hub()
    manifest = read_manifest(one.run)
    manifest.trainer = None
    write_manifest(one.run, manifest)
    one.another_hub("long")
    assert (one.trainer_pid, read_manifest(one.run).attempt) == (trainer, 1)


def test_kill_reaches_an_adopted_trainer(hub: Start) -> None:
    one = hub("deaf")
    until(one.running)
    one.kill_hub()
    one.another_hub("deaf")
    assert HubClient(one.run.path).send("kill")["s"] == "applied"
    assert one.process.wait(20) == 1
    assert one.records("crash")[0]["class"] == "killed"
    assert "asked" in one.records("crash")[0]["hint"]


# --- suspend ----------------------------------------------------------------------------------------------------------------------


def suspend(one: LivingHub) -> None:
    until(one.running)
    HubClient(one.run.path).send("pause", {"mode": "suspend"})
    until(lambda: read_manifest(one.run).state == "suspended" and read_manifest(one.run).trainer is None)


def test_a_suspended_run_has_no_trainer_and_goes_on_where_it_was(hub: Start) -> None:
    one = hub("long")
    suspend(one)
    assert one.process.poll() is None
    step = read_manifest(one.run).step
    refused = HubClient(one.run.path).send("save")
    assert (refused["s"], refused["error"]) == ("failed", "the run is suspended and has no trainer: resume it first")
    assert HubClient(one.run.path).send("resume")["s"] == "applied"
    until(lambda: steps_of(one, 2))
    assert steps_of(one, 2)[0] == step + 1
    assert (read_manifest(one.run).attempt, read_manifest(one.run).resume_from) == (2, f"checkpoint-{step}")
    assert one.records("crash") == []


@pytest.mark.parametrize("op", ["stop", "kill", "SIGTERM"])
def test_a_suspended_run_can_be_ended(hub: Start, op: str) -> None:
    one = hub("long")
    suspend(one)
    if op == "SIGTERM":
        one.process.send_signal(signal.SIGTERM)
    else:
        assert HubClient(one.run.path).send(op)["s"] == "applied"
    assert one.process.wait(20) == 0
    manifest = read_manifest(one.run)
    assert manifest.state == "stopped"
    assert op in str(manifest.why)


def test_a_run_whose_hub_was_killed_while_it_was_suspended_goes_on(hub: Start) -> None:
    one = hub("long")
    suspend(one)
    step = read_manifest(one.run).step
    one.kill_hub()
    assert state_of(one) == "lost"
    one.another_hub("long")
    until(lambda: steps_of(one, 2))
    assert steps_of(one, 2)[0] == step + 1


# --- retry ------------------------------------------------------------------------------------------------------------------------

BATCH = "training: {per_device_train_batch_size: 4, gradient_accumulation_steps: 2}\n"


def recipe(retry: str, batch: str = BATCH) -> str:
    return f"name: demo\nlaunch: {{gpus: cpu, retry: {retry}}}\n{batch}"


def test_after_an_out_of_memory_half_the_batch_goes_on_from_the_checkpoint(hub: Start) -> None:
    one = hub("late-oom,late-oom,long", recipe=recipe("{oom: 2}"))
    until(lambda: len(steps_of(one, 3)) > 1)
    first = next(record for record in one.records("metrics") if record["src"] == "trainer-2")
    assert (first["step"], first["per_device_train_batch_size"], first["gradient_accumulation_steps"]) == (11, 2, 4)
    manifest = read_manifest(one.run)
    assert manifest.overrides == {"training": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}}
    assert (manifest.attempt, manifest.retried, manifest.resume_from) == (3, {"oom": 2}, "checkpoint-10")
    assert [crash["class"] for crash in one.records("crash")] == ["gpu_oom", "gpu_oom"]
    told = one.records("warning")[0]["text"]
    assert "started again by launch.retry: oom 1 of 2, per_device_train_batch_size 4 → 2, gradient_accumulation_steps 2 → 4" in told
    assert starting(one)[0]["overrides"] == {"training": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}}
    assert [record for record in one.records("end") if record["src"] == "hub"] == [], "the run has not ended"


def test_when_the_retries_are_used_up_the_run_has_failed(hub: Start) -> None:
    one = hub("late-kill,killed", recipe=recipe("{crash: 1}"))
    assert one.process.wait(30) == 1
    manifest = read_manifest(one.run)
    assert (manifest.state, manifest.attempt, manifest.retried) == ("failed", 2, {"crash": 1})
    assert manifest.why.endswith("(launch.retry: crash: 1 is used up)")


@pytest.mark.parametrize("story", ["user-error", "error", "oom", "late-kill"])
def test_without_a_word_in_the_recipe_and_after_faults_that_would_come_again_nothing_is_retried(hub: Start, story: str) -> None:
    one = hub(story, recipe=recipe("{oom: 3}" if story in ("late-kill",) else "{crash: 3}"))
    assert one.process.wait(20) == 1
    assert (read_manifest(one.run).state, read_manifest(one.run).attempt) == ("failed", 1)


@pytest.mark.parametrize("how", ["kill", "SIGTERM twice"])
def test_who_wants_it_to_end_gets_no_next_attempt(hub: Start, how: str) -> None:
    one = hub("deaf", recipe=recipe("{crash: 3}"))
    until(one.running)
    if how == "kill":
        HubClient(one.run.path).send("kill")
    else:
        one.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in [record["s"] for record in one.records("state")])
        one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(20) == 1
    assert read_manifest(one.run).attempt == 1


def test_a_command_that_waits_during_a_crash_goes_to_the_next_attempt(hub: Start) -> None:
    one = hub("stuck,long", recipe=recipe("{crash: 1}"))
    until(lambda: steps_of(one, 1)[-1:] == [4])
    assert HubClient(one.run.path).send("save", id="across")["s"] == "queued"
    os.kill(one.trainer_pid, signal.SIGKILL)
    until(lambda: steps_of(one, 2))
    assert HubClient(one.run.path).send("save", id="across", until="applied", wait_s=20)["s"] == "applied"
    assert [(record["src"], record["id"]) for record in one.records("applied")] == [("trainer-2", "across")]


def test_the_workbench_shows_a_run_of_several_hubs_and_attempts_as_one(hub: Start) -> None:
    one = hub("late-kill,long")
    assert one.process.wait(20) == 1
    one.another_hub("late-kill,long")
    until(lambda: steps_of(one, 2))
    one.kill_hub()
    one.another_hub("late-kill,long")
    HubClient(one.run.path).send("save", id="asked", until="applied", wait_s=20)
    HubClient(one.run.path).send("stop")
    assert one.process.wait(20) == 0
    shown = RunState()
    for record in one.records():
        reduce(shown, record)
    assert (shown.state, shown.attempt, shown.attempt_from, shown.crash) == ("stopped", 2, 10, None)
    assert shown.hello["hub"]["pid"] == one.process.pid
    steps = list(shown.metrics["loss"].xs)
    assert steps == list(range(1, len(steps) + 1)), "one curve, without the lost steps"
    assert {name: command.state for name, command in shown.commands.items() if name == "asked"} == {"asked": "applied"}


# --- tuitune resume ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def resume(monkeypatch: pytest.MonkeyPatch) -> Callable[..., launch.Resumed]:
    """`resume_run` whose hub has a stand-in for a trainer."""

    real = launch.start_hub

    def begin(one: LivingHub, stories: str, start: str | None = None) -> launch.Resumed:
        monkeypatch.setattr(launch, "start_hub", lambda run, workspace: real(run, ROOT, one.command(stories)))
        return launch.resume_run(one.run, start)

    return begin


def test_resume_says_from_where(hub: Start, resume: Callable[..., launch.Resumed]) -> None:
    one = hub("late-kill")
    assert one.process.wait(20) == 1
    resumed = resume(one, "late-kill,long")
    assert (resumed.attempt, resumed.resume_from, resumed.adopted) == (2, "checkpoint-10", False)
    assert resumed.words == f"{one.run.name} goes on: attempt 2, from checkpoint-10"
    with pytest.raises(UserError, match=r"lives \(it is .*\): attach to it instead: tuitune attach demo-"):
        launch.resume_run(one.run)


def test_resume_goes_back_to_the_checkpoint_that_is_named(hub: Start, resume: Callable[..., launch.Resumed]) -> None:
    one = hub("saves,long")
    until(lambda: saved(one, 20))
    lose(one)
    damaged = one.run.checkpoints / "checkpoint-20" / "weights"
    damaged.write_text(damaged.read_text().replace("of", "0f"))
    with pytest.raises(UserError, match=r"does not go on from there: checkpoint-20/weights is not what was written there: its sha256"):
        resume(one, "saves,long", start="checkpoint-20")
    assert read_manifest(one.run).attempt == 1
    resumed = resume(one, "saves,long", start="checkpoint-10")
    assert (resumed.attempt, resumed.resume_from) == (2, "checkpoint-10")
    assert f"checkpoint-20 set aside in {one.run.checkpoints / 'aside'}" in resumed.words
    with pytest.raises(UserError, match="lives"):
        launch.resume_run(one.run, "checkpoint-10")


def test_resume_says_that_it_starts_from_the_beginning(hub: Start, resume: Callable[..., launch.Resumed]) -> None:
    one = hub("segfault")
    assert one.process.wait(20) == 1
    assert resume(one, "segfault,long").words.endswith("attempt 2, from the beginning: it has no whole checkpoint")


def test_resume_of_a_living_trainer_gives_it_a_hub(hub: Start, resume: Callable[..., launch.Resumed]) -> None:
    one = hub("long")
    until(one.running)
    one.kill_hub()
    resumed = resume(one, "long")
    assert (resumed.attempt, resumed.adopted) == (1, True)
    assert "has a new hub; its trainer had gone on (it is running at step" in resumed.words


def test_resume_wakes_a_suspended_run(hub: Start) -> None:
    one = hub("long")
    suspend(one)
    resumed = launch.resume_run(one.run)
    assert (resumed.attempt, resumed.adopted) == (2, False)
    assert resumed.resume_from == f"checkpoint-{one.records('checkpoint')[-1]['step']}"


def test_resume_refuses_what_has_nothing_left_to_do_and_what_lives_elsewhere(hub: Start) -> None:
    one = hub("short")
    assert one.process.wait(20) == 0
    with pytest.raises(UserError, match="has done all of its 3 steps: for more of them start a new run"):
        launch.resume_run(one.run)
    write_manifest(one.run, Manifest(name="demo", state="running", host="another-box", workspace=str(ROOT)))
    with pytest.raises(UserError, match="it is running on another-box: look there first"):
        launch.resume_run(one.run)
    write_manifest(one.run, Manifest(name="demo", state="failed", workspace="/nonexistent"))
    with pytest.raises(UserError, match="was started in /nonexistent, which is gone"):
        launch.resume_run(one.run)


def test_a_hub_that_does_not_come_up_leaves_the_run_as_it_was(hub: Start, resume: Callable[..., launch.Resumed]) -> None:
    one = hub("killed")
    assert one.process.wait(20) == 1
    before = read_manifest(one.run)
    one.command = lambda stories: [sys.executable, "-c", "import sys; sys.exit('no such day')"]
    with pytest.raises(UserError, match="got no hub: no such day"):
        resume(one, "long")
    assert read_manifest(one.run) == before


def test_the_command_line_resumes_and_tells_in_json(hub: Start) -> None:
    one = hub("long")
    suspend(one)
    words = [sys.executable, "-m", "tuitune", "resume", str(one.run.path), "--detach", "--json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["schema"], document["run"], document["attempt"], document["adopted"]) == (1, one.run.name, 2, False)
    again = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 1
    assert "attach to it instead" in again.stderr
    assert len(again.stderr.splitlines()) == 1


def test_attach_says_that_the_hub_is_gone_and_what_to_do(hub: Start) -> None:
    one = hub("long")
    until(one.running)
    one.kill_hub()
    words = [sys.executable, "-m", "tuitune", "attach", str(one.run.path), "--plain"]
    viewer = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    os.kill(one.trainer_pid, signal.SIGTERM)
    out, _ = viewer.communicate(timeout=60)
    if "was killed" not in out:  # the trainer ended before the viewer came: then there is nothing to take over
        assert read_manifest(one.run).state in ENDED
    else:
        assert "its trainer goes on: tuitune resume" in out


def test_the_files_of_a_run_that_went_on_belong_to_its_user_alone(hub: Start) -> None:
    one = hub("late-kill,short")
    assert one.process.wait(20) == 1
    one.another_hub("late-kill,short")
    assert one.process.wait(20) == 0
    for path in [one.run.manifest, one.run.log / "2.rank0.txt", one.run.journal / "trainer-2.jsonl"]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert Path(one.run.path).stat().st_mode & 0o077 == 0
