"""Make a run directory as `launch` does and train it in a process of its own, without a hub."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuitune.bus.journal import JournalTail
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.manifest import Manifest, write_manifest

ROOT = Path(__file__).parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # a tiny model's threads only wait for each other, and other tests run beside it


@dataclass
class Trained:
    """A run and how its trainer ended."""

    run: RunDirectory
    returncode: int
    output: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return JournalTail(self.run.journal).poll()

    def of(self, event: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["ev"] == event]

    @property
    def losses(self) -> list[float]:
        return [record["loss"] for record in self.of("metrics")]


class NoCommands:
    """A trainer's link on which nobody says anything."""

    def take(self) -> list[Any]:
        return []


def new_run(folder: Path, recipe: str) -> RunDirectory:
    """A run directory in `folder`/runs for a recipe that lies in `folder`."""
    (folder / "recipe.yaml").write_text(recipe)
    run = create_run(folder / "runs", "test", recipe)
    write_manifest(run, Manifest(name="test", recipe_path=str(folder / "recipe.yaml"), workspace=str(folder)))
    return run


def start_trainer(run: RunDirectory, module: str = "tuitune.trainer", **environment: str) -> subprocess.Popen[str]:
    """`python -m tuitune.trainer RUN` (or another module that runs it), output in a pipe."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", module, str(run.path)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", **ONE_THREAD, **environment},
    )


def train(folder: Path, recipe: str, module: str = "tuitune.trainer", limit: float = 170, **environment: str) -> Trained:
    """Train a recipe to its end; subprocess.TimeoutExpired after `limit` seconds, when the trainer has been ended."""
    run = new_run(folder, recipe)
    process = start_trainer(run, module, **environment)
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Trained(run, process.returncode, output)
