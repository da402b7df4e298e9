"""The dashboard beside a real hub: commands reach the trainer, its answers are on screen; a killed workbench loses nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pilot.run.host import Host, dashboard, screen_text, until
from tests.support import journals
from tests.support.terminal import Terminal
from tuitune.bus.client import HubClient
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.manifest import Manifest, Process, read_manifest, write_manifest

ROOT = Path(__file__).parents[3]
SUPERVISE = (
    "import sys; from pathlib import Path; from tuitune.hub.supervisor import supervise;"
    "sys.exit(supervise(Path(sys.argv[1]), [sys.executable, '-m', 'tests.support.stand_in_trainer', sys.argv[1], 'long']))"
)


@pytest.fixture
def living_run(tmp_path: Path) -> Iterator[Path]:
    """A run with a real hub and the stand-in trainer (tests/support/stand_in_trainer.py): 50 steps a second until it is stopped."""
    run = create_run(tmp_path / "runs", "demo", "name: demo\nlaunch: {gpus: cpu}\n")
    write_manifest(run, Manifest(name="demo", recipe_path=str(tmp_path / "demo.yaml"), workspace=str(tmp_path)))
    hub = subprocess.Popen([sys.executable, "-c", SUPERVISE, str(run.path)], cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
    yield run.path
    trainer = read_manifest(run).trainer
    for pid in (hub.pid, trainer.pid if trainer else None):
        if pid is not None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    hub.wait()


async def test_a_checkpoint_is_asked_for_confirmed_and_seen_to_be_applied(living_run: Path) -> None:
    async with dashboard(living_run, (100, 30)) as (pilot, view):
        await until(pilot, lambda: (view.run_state.step or 0) > 3 and view.feed.alive, "the first steps")
        await pilot.press("k")
        await until(pilot, lambda: "Save a checkpoint now?" in screen_text(pilot.app), "the question")
        await pilot.press("y")
        await until(pilot, lambda: [c.state for c in view.run_state.commands.values()] == ["applied"], "the trainer's answer")
        assert isinstance(pilot.app, Host)
        told = pilot.app.told
        await until(pilot, lambda: told and told[-1].startswith("save applied by "), "the toast")
        await pilot.press("e")
        await until(pilot, lambda: "save applied" in screen_text(pilot.app), "the event")
        assert "save asked for by" in screen_text(pilot.app)


async def test_escape_at_the_question_sends_nothing(living_run: Path) -> None:
    async with dashboard(living_run, (100, 30)) as (pilot, view):
        await until(pilot, lambda: (view.run_state.step or 0) > 3, "the first steps")
        await pilot.press("k")
        await until(pilot, lambda: "Save a checkpoint now?" in screen_text(pilot.app), "the question")
        await pilot.press("escape")
        step = view.run_state.step or 0
        await until(pilot, lambda: (view.run_state.step or 0) > step + 20, "more steps")
        assert view.run_state.commands == {}


async def test_a_stopped_run_is_shown_as_stopped(living_run: Path) -> None:
    async with dashboard(living_run, (100, 30)) as (pilot, view):
        await until(pilot, lambda: (view.run_state.step or 0) > 3, "the first steps")
        HubClient(living_run).send("stop", {"save": False})
        await until(pilot, lambda: "■ stopped" in screen_text(pilot.app), "the end")


def test_after_kill_9_a_new_workbench_shows_the_whole_history(tmp_path: Path) -> None:
    run = journals.write_run(tmp_path / "runs", steps=40, max_steps=60, final=None)
    manifest = read_manifest(RunDirectory(run))
    manifest.hub = manifest.trainer = Process.of(os.getpid())  # this test's own process stands for the run's: it lives
    write_manifest(RunDirectory(run), manifest)
    command = [sys.executable, "-m", "tuitune", str(tmp_path)]
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PYTHONPATH": str(ROOT)}
    with Terminal(command, size=(120, 40), env=environment, cwd=tmp_path) as terminal:
        terminal.wait_for("RUNS 1")
        terminal.send("alt+r")
        terminal.wait_for("step 40/60")
        os.kill(terminal.process.pid, signal.SIGKILL)
        terminal.process.wait()
    later = {"v": 1, "n": 999, "t": journals.START + 30, "ev": "metrics", "step": 41, "max_steps": 60, "loss": 0.5}
    journals.append(run, "trainer-1", [later])
    with Terminal(command, size=(120, 40), env=environment, cwd=tmp_path) as terminal:
        terminal.wait_for("RUNS 1")
        terminal.send("alt+r")
        assert "▶ running" in terminal.wait_for("step 41/60")
        terminal.wait_for("◆")  # the checkpoint of step 25 is on the axis
