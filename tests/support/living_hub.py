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
from tuitune.bus.sockets import read_connection, remove_sockets
from tuitune.runs.directory import create_run
from tuitune.runs.manifest import Manifest, Process, read_manifest, write_manifest

ROOT = Path(__file__).parents[2]
RECIPE = "name: demo\nlaunch: {gpus: cpu}\n"
# STORY_HANG_S: the least time after which a step counts as hung. STORY_CARDS: the GPUs that the box has for the lease, in JSON.
SUPERVISE = """
import json, os, sys
from pathlib import Path
from tuitune.hub import cards, hang
from tuitune.hub.supervisor import supervise
if "STORY_HANG_S" in os.environ:
    hang.FLOOR_S = hang.FIRST_STEP_S = float(os.environ["STORY_HANG_S"])
if "STORY_CARDS" in os.environ:
    class Cards:
        def sample(self): return {"devices": json.loads(os.environ["STORY_CARDS"])}
        def close(self): pass
    cards.WAIT_S, cards.GpuSampler = 0.1, Cards
sys.exit(supervise(Path(sys.argv[1]), [sys.executable, "-m", "tests.support.stand_in_trainer", sys.argv[1], sys.argv[2]]))
"""


def until(condition: Callable[[], object], seconds: float = 60.0) -> Any:
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
        self.environment = {**os.environ, **(environment or {})}
        self.process = self.start(story, **options)

    def command(self, story: str) -> list[str]:
        """The command line of a hub on this run."""
        return hub_command(self.run.path, story)

    def start(self, story: str, **options: Any) -> subprocess.Popen[bytes]:
        """A hub on this run."""
        return subprocess.Popen(
            self.command(story), cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True, env=self.environment, **options
        )

    def kill_hub(self) -> None:
        """Kill the hub alone; its trainer lives on."""
        self.process.kill()
        self.process.wait()

    def another_hub(self, story: str, **options: Any) -> None:
        """A new hub on the run, in place of the one before, in service."""
        before = read_connection(self.run.connection)
        self.process = self.start(story, **options)
        until(lambda: read_connection(self.run.connection) not in (None, before) or self.process.poll() is not None)

    @property
    def hub(self) -> Process | None:
        """The hub's identity; None when it has ended."""
        return Process.of(self.process.pid)

    def process_waits(self, seconds: float) -> None:
        """Let the hub live for that long, or less when it ends by itself."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass

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
        manifest = read_manifest(self.run)
        for process in (manifest.hub, manifest.trainer):  # the hub may be another than the one that was started first
            if process and process.alive():
                os.kill(process.pid, signal.SIGKILL)
        remove_sockets(self.run.path)  # a killed hub cannot
