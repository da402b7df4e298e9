"""A sweep of four real runs on the CPU: killed in the middle, it goes on with what it had started, and its table is right."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.support.living_hub import until
from tests.support.runs import ONE_THREAD, ROOT
from tests.support.tiny_model import write_rows
from tuitune.hub.launch import launch_job, resume_run
from tuitune.runs.curves import read_curves
from tuitune.runs.directory import RunDirectory
from tuitune.runs.listing import list_runs
from tuitune.runs.manifest import ENDED, read_manifest
from tuitune.runs.results import result_of

LIMIT_S = 240  # four starts of a trainer on a slow box
POINTS = [{"training.learning_rate": rate, "peft.r": rank} for rate in (1e-5, 1e-2) for rank in (2, 4)]


def recipe(model: Path) -> str:
    return (
        f"# tried with several rates\nname: tiny\ntask: sft\nmodel: {{name_or_path: {model}, dtype: float32}}\n"
        "peft: {r: 8, lora_alpha: 8, target_modules: all-linear}\n"
        "dataset:\n  train: [{path: train.jsonl, columns: {user: question, assistant: answer}}]\n"
        "  eval: [{path: train.jsonl, columns: {user: question, assistant: answer}, max_rows: 4}]\n"
        "training:\n  max_steps: 4\n  learning_rate: 1.0e-3  # varied\n  per_device_train_batch_size: 4\n  max_length: 64\n"
        "  logging_steps: 1\n  eval_strategy: steps\n  eval_steps: 2\n  save_strategy: 'no'\nlaunch: {gpus: cpu}\n"
    )


def kill(run: RunDirectory) -> None:
    """The hub of a sweep and its own process, without a word."""
    manifest = read_manifest(run)
    for process in (manifest.hub, manifest.trainer):
        if process is not None and process.alive():
            os.kill(process.pid, signal.SIGKILL)
    until(lambda: read_manifest(run).living_state() == "lost", 60)


def trials(run: RunDirectory) -> dict[int, list[RunDirectory]]:
    """What was started for each point."""
    found: dict[int, list[RunDirectory]] = {}
    for summary in list_runs(run.path.parent):
        one = RunDirectory(summary.path)
        if summary.kind == "train" and one.manifest.exists():
            found.setdefault(int(read_manifest(one).job["trial"]), []).append(one)
    return found


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    """No process of a run outlives the test."""
    yield tmp_path
    for summary in sorted(list_runs(tmp_path / "runs"), key=lambda one: one.kind):
        manifest = read_manifest(RunDirectory(summary.path)) if (summary.path / "manifest.json").exists() else None
        for process in (manifest.hub, manifest.trainer) if manifest else ():
            if process is not None and process.alive():
                os.kill(process.pid, signal.SIGKILL)


def test_a_sweep_survives_a_kill_and_its_table_is_right(tiny_model: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ONE_THREAD, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, value)
    write_rows(workspace / "train.jsonl", 16)
    (workspace / "recipe.yaml").write_text(recipe(tiny_model))
    given = {"recipe": str(workspace / "recipe.yaml"), "name": "tiny", "points": POINTS, "parallel": 2, "metric": "eval_loss"}
    run = launch_job(
        "sweep", given, name="tiny", recipe_text=recipe(tiny_model), recipe_path=workspace / "recipe.yaml", workspace=workspace
    )
    until(lambda: len(trials(run)) == 2, 60)
    kill(run)
    until(lambda: all(read_manifest(one).state in ENDED for ones in trials(run).values() for one in ones), LIMIT_S)
    assert set(trials(run)) == {1, 2}, "the runs went on without the sweep, and nobody started others"

    resume_run(run)
    until(lambda: read_manifest(run).state in ENDED, LIMIT_S)
    assert read_manifest(run).state == "done"
    started = trials(run)
    assert {number: len(ones) for number, ones in started.items()} == dict.fromkeys((1, 2, 3, 4), 1), "none is started twice"

    table = result_of(run, read_manifest(run))
    assert table is not None
    rows = {row["number"]: row for row in table["trials"]}
    for number, (one,) in started.items():
        curve = read_curves(one.journal)["eval_loss"]
        assert rows[number]["value"] == pytest.approx(curve.values[-1])
        assert (rows[number]["best"], rows[number]["left"]) == (pytest.approx(min(curve.values)), read_manifest(one).step)
        assert (rows[number]["run"], rows[number]["state"], rows[number]["values"]) == (one.name, "done", POINTS[number - 1])
        written = one.recipe.read_text()
        assert f"r: {POINTS[number - 1]['peft.r']}," in written
        assert "# varied" in written
    assert table["best"] == min((3, 4), key=lambda number: rows[number]["value"])

    shown = subprocess.run(
        [sys.executable, "-m", "tuitune", "sweep", run.name, "--table", "--json"], cwd=workspace, capture_output=True, text=True, check=True
    )
    assert json.loads(shown.stdout)["best"] == table["best"]
