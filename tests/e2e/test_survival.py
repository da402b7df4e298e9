"""A real training on the CPU through everything that a hub can meet: hub killed, suspended, trainer killed. Its losses are those of a
training that nobody disturbed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_command_line import Workspace
from tests.support.living_hub import until
from tuitune.bus.journal import JournalTail
from tuitune.runs.checkpoints import checkpoints_of, is_complete
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest

pytestmark = [pytest.mark.xdist_group("survival"), pytest.mark.timeout(400)]
RECIPE = """\
name: {name}
task: sft
model: {{name_or_path: {model}, dtype: float32}}
peft: {{r: 8, target_modules: all-linear, lora_dropout: 0.2}}
dataset:
  train: [{{path: train.jsonl, columns: {{user: question, assistant: answer}}}}]
training: {{max_steps: 12, per_device_train_batch_size: 2, max_length: 64, logging_steps: 1, save_steps: 5, use_cpu: true}}
launch: {{gpus: cpu, retry: {{crash: 1}}}}
"""
LONG = 120.0  # seconds for a process that loads torch on a busy box


@pytest.fixture
def workspace(tiny_model: Path, tmp_path: Path) -> Iterator[Workspace]:
    one = Workspace(tmp_path, tiny_model)
    yield one
    one.end()


def train(workspace: Workspace, name: str) -> RunDirectory:
    (workspace.folder / f"{name}.yaml").write_text(RECIPE.format(name=name, model=workspace.model))
    code, _, error = workspace.tuitune("train", f"{name}.yaml", "--detach", "--force")
    assert code == 0, error
    return workspace.run(name)


def losses(run: RunDirectory) -> list[float]:
    """Step by step, of the attempt that trained a step last."""
    found = {record["step"]: record["loss"] for record in JournalTail(run.journal).poll() if record["ev"] == "metrics"}
    return [found[step] for step in sorted(found)]


def reaches(run: RunDirectory, state: str) -> None:
    until(lambda: read_manifest(run).state == state, LONG)


def test_a_real_run_survives_its_hub_a_suspension_and_a_kill_with_the_losses_of_an_undisturbed_one(workspace: Workspace) -> None:
    undisturbed = train(workspace, "plain")
    run = train(workspace, "hard")
    assert workspace.tuitune("send", run.name, "pause", "mode=keep")[0] == 0
    reaches(run, "paused")
    manifest = read_manifest(run)
    assert manifest.hub is not None
    assert manifest.trainer is not None

    code, out, _ = workspace.tuitune("send", run.name, "stacks")
    assert (code, "1.rank0.txt" in out) == (0, True)
    until(lambda: "most recent call first" in (run.log / "1.rank0.txt").read_text(errors="replace"))

    os.kill(manifest.hub.pid, signal.SIGKILL)
    until(lambda: not manifest.hub.alive())
    code, _, error = workspace.tuitune("send", run.name, "resume")
    assert (code, f"tuitune resume {run.name}" in error) == (1, True), error
    code, out, error = workspace.tuitune("resume", run.name, "--detach")
    assert (code, "has a new hub; its trainer had gone on (it is paused at step 1)" in out) == (0, True), out + error
    assert read_manifest(run).trainer == manifest.trainer

    assert workspace.tuitune("send", run.name, "pause", "mode=suspend")[0] == 0
    reaches(run, "suspended")
    until(lambda: read_manifest(run).trainer is None)
    assert not manifest.trainer.alive()
    code, out, error = workspace.tuitune("resume", run.name, "--detach")
    assert (code, "attempt 2, from checkpoint-1" in out) == (0, True), out + error

    assert workspace.tuitune("send", run.name, "pause", "mode=keep")[0] == 0
    reaches(run, "paused")
    assert workspace.tuitune("send", run.name, "save")[0] == 0
    damaged = until(lambda: next((folder for folder in checkpoints_of(run)[:-1] if is_complete(folder)), None), LONG)
    weights = damaged / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    second = read_manifest(run).trainer
    assert second is not None
    os.kill(second.pid, signal.SIGKILL)
    reaches(run, "done")

    reaches(undisturbed, "done")
    after = read_manifest(run)
    assert (after.attempt, after.resume_from, after.step, after.retried) == (3, "checkpoint-1", 12, {"crash": 1})
    seam = [record for record in JournalTail(run.journal).poll() if record["ev"] == "seam"][-1]
    assert seam["changed"] == after.passed_over
    assert after.passed_over[0].startswith(f"{damaged.name}/{weights.name} is not what was written there")
    assert losses(run) == losses(undisturbed)
    assert len(losses(run)) == 12
    assert list((run.path / "adapter").glob("adapter_model*"))
