"""The dashboard beside a real hub and a real training: what is asked by keys is done by the trainer at a step, and seen to be done."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pilot.run.host import Host, dashboard, screen_text, screen_words, until
from tests.support.tiny_model import make_tiny_model, write_rows
from tuitune.bus.client import HubClient
from tuitune.hub.launch import launch_recipe
from tuitune.runs.manifest import read_manifest

RECIPE = """\
name: tiny
task: sft
model: {name_or_path: model}
peft: {r: 4, lora_alpha: 8, target_modules: all-linear}
dataset:
  train: [{path: train.jsonl, columns: {user: question, assistant: answer}}]
training:
  max_steps: 100000
  per_device_train_batch_size: 2
  gradient_accumulation_steps: 2
  learning_rate: 1.0e-3
  logging_steps: 1
  save_steps: 50000
  lr_scheduler_type: constant
launch: {gpus: cpu}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run of a tiny model on the CPU that trains until it is ended."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    make_tiny_model(tmp_path / "model")
    write_rows(tmp_path / "train.jsonl")
    (tmp_path / "r.yaml").write_text(RECIPE)
    started = launch_recipe(tmp_path / "r.yaml", tmp_path)
    yield started.path
    if read_manifest(started).living_state() not in ("done", "stopped", "failed", "lost"):
        HubClient(started.path).send("kill")


async def test_rate_pause_batch_and_stop_by_keys(run: Path) -> None:
    """r: 5e-4 hold · p: trim · while paused `:` save and b: 4 x 1 · F5 is not needed, the new batch goes on by itself · stop."""
    async with dashboard(run, (100, 30)) as (pilot, view):
        state = view.run_state
        await until(pilot, lambda: (state.step or 0) > 2 and "set" in state.offers, "the first steps", 120)

        def outcomes() -> list[str]:
            return [command.outcome for command in state.commands.values() if command.state != "queued"]

        await pilot.press("r")
        await until(pilot, lambda: "Now 0.001." in screen_text(pilot.app), "the question")
        await pilot.press(*"5e-4 hold", "enter")
        await until(pilot, lambda: "It stays there to the end" in screen_words(pilot.app), "the confirmation")
        await pilot.press("y")
        await until(pilot, lambda: len(outcomes()) == 1, "the new rate", 60)
        assert outcomes()[0].startswith("learning_rate 0.001 → 5.00e-4, hold by ")
        await until(pilot, lambda: state.value("learning_rate") == 5e-4, "a step with it", 60)

        await pilot.press("p")
        await until(pilot, lambda: "Pause the run?" in screen_text(pilot.app), "the question")
        await pilot.press("t")
        await until(pilot, lambda: state.state == "paused", "the pause", 60)
        paused_at = state.step or 0
        await until(pilot, lambda: "‖ Paused by" in screen_text(pilot.app), "the banner")

        await pilot.press("colon", *"save", "enter")
        await until(pilot, lambda: state.checkpoint is not None, "a checkpoint while it is paused", 60)
        assert state.checkpoint is not None
        assert state.checkpoint[0] == paused_at

        await pilot.press("b")
        await until(pilot, lambda: "Now 2 × 2." in screen_text(pilot.app), "the batch in force")
        await pilot.press(*"4 x 1", "enter")
        await until(pilot, lambda: "2 × 2 = 4 → 4 × 1 = 4: the same updates." in screen_words(pilot.app), "the confirmation")
        await pilot.press("y")
        await until(pilot, lambda: any(text.startswith("batch 2 × 2 → 4 × 1 by ") for text in outcomes()), "the new batch", 60)
        await until(pilot, lambda: (state.step or 0) > paused_at + 2, "steps with it", 60)
        assert state.value("learning_rate") == 5e-4, "what was set before stays"

        await pilot.press("colon", *"stop save=false", "enter")
        await until(pilot, lambda: "it ends without saving" in screen_words(pilot.app), "the question")
        await pilot.press("y")
        await until(pilot, lambda: state.state == "stopped", "the end", 60)
        marks = [event.words for event in state.marks() if event.kind == "applied"]
        assert len(marks) >= 4
        assert isinstance(pilot.app, Host)
        assert any("batch 2 × 2 → 4 × 1" in text for text in pilot.app.told)
