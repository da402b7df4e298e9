"""A real hub in a process of its own over the stand-in trainer (stand_in_trainer.py), for tests of the hub and of those who watch it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tuitune.bus.journal import JournalTail
from tuitune.bus.sockets import remove_sockets
from tuitune.runs.directory import create_run
from tuitune.runs.manifest import Manifest, read_manifest, write_manifest

ROOT = Path(__file__).parents[2]
RECIPE = "name: demo\nlaunch: {gpus: cpu}\n"
SUPERVISE = (
    "import sys; from pathlib import Path; from tuitune.hub.supervisor import supervise;"
    "sys.exit(supervise(Path(sys.argv[1]), [sys.executable, '-m', 'tests.support.stand_in_trainer', sys.argv[1], sys.argv[2]]))"
)


def until(condition: Callable[[], object], seconds: float = 20.0) -> Any:
    """The first true value of `condition`, or a failure after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("that never came true")


def hub_command(run: Path, story: str) -> list[str]:
    """The command line of a hub whose trainer plays `story`; to be run in the repository's root."""
    return [sys.executable, "-c", SUPERVISE, str(run), story]


class LivingHub:
    """A run, its hub, and what both have told so far. Call `end` when done: it leaves no process."""

    def __init__(self, root: Path, story: str, recipe: str = RECIPE, environment: Mapping[str, str] | None = None, **options: Any) -> None:
        self.run = create_run(root, "demo", recipe)
        write_manifest(self.run, Manifest(name="demo", recipe_path=str(root / "demo.yaml"), workspace=str(root)))
        self.process = subprocess.Popen(
            hub_command(self.run.path, story),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
            **options,
        )

    def records(self, ev: str | None = None) -> list[dict[str, Any]]:
        """All records so far, or those of one type."""
        return [record for record in JournalTail(self.run.journal).poll() if ev in (None, record["ev"])]

    def running(self) -> bool:
        """Whether the trainer has told its first step and the hub has noticed."""
        return bool(self.records("metrics")) and read_manifest(self.run).step is not None

    @property
    def trainer_pid(self) -> int:
        """The trainer's pid, by the manifest."""
        trainer = read_manifest(self.run).trainer
        assert trainer is not None
        return trainer.pid

    def end(self) -> None:
        """Kill what still lives of it."""
        self.process.kill()
        self.process.wait()
        trainer = read_manifest(self.run).trainer
        if trainer and trainer.alive():
            os.kill(trainer.pid, signal.SIGKILL)
        remove_sockets(self.run.path)  # a killed hub cannot
