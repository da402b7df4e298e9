"""The main job in a real terminal: the demo opens, F5 trains the real model, the workbench is killed, a new one shows the whole history."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.terminal import Terminal
from tuitune.bus.journal import JournalTail
from tuitune.demo.model import demo_model
from tuitune.demo.workspace import make_demo
from tuitune.recipe.schema import load_schema
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Process, read_manifest

COMMAND = [sys.executable, "-m", "tuitune"]


@pytest.fixture(scope="session")
def model() -> Path:
    """SmolLM2-135M-Instruct in the user's cache: fetched once on a machine (93 MB)."""
    return demo_model(lambda _: None)


def steps(run: RunDirectory) -> list[int]:
    return [record["step"] for record in JournalTail(run.journal).poll() if record["ev"] == "metrics"]


def alive(process: Process | None) -> bool:
    return process is not None and process.alive()


@pytest.mark.demo_model
@pytest.mark.timeout(420)
def test_a_run_outlives_the_workbench_that_started_it(model: Path, tmp_path: Path) -> None:
    load_schema()
    folder = tmp_path / "demo"
    recipe = make_demo(folder)
    recipe.write_text(recipe.read_text().replace("eval_on_start: true", "eval_on_start: false"))
    with Terminal([*COMMAND, str(recipe)], cwd=folder) as first:
        first.wait_for("max_steps: 40", 60)
        first.send("f5")
        first.wait_for("Train", 60)
        first.send("enter")
        first.wait_for("step ", 120)
        run = RunDirectory(next((folder / "runs").iterdir()))
        deadline = time.monotonic() + 120
        while len(steps(run)) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    manifest = read_manifest(run)
    assert alive(manifest.hub)
    assert alive(manifest.trainer)
    before = len(steps(run))
    with Terminal([*COMMAND, str(folder)], cwd=folder) as second:
        second.wait_for("▶", 60)
        second.send("alt+r")
        second.wait_for("loss", 60)
        while len(steps(run)) < before + 1 and time.monotonic() < deadline + 60:
            time.sleep(0.2)
        second.send("e")
        second.wait_for("loading", 60)
        second.send("shift+f5")
        second.wait_for("stop", 60)
        second.send("enter")
        deadline = time.monotonic() + 90
        while read_manifest(run).state != "stopped" and time.monotonic() < deadline:
            time.sleep(0.2)
        second.wait_for("stopped", 60)
    seen = steps(run)
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) >= before + 1
    assert (run.adapter / "adapter_model.safetensors").exists()
    listed = subprocess.run([*COMMAND, "runs", "--json"], cwd=folder, capture_output=True, text=True, check=True)
    assert json.loads(listed.stdout)["runs"][0]["state"] == "stopped"
