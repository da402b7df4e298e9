"""Pictures of recorded runs: one that was steered (screenshots.py's `--steered`), shown as it was while it trained; a chat after its end.

Its journals are cut where the picture is to be taken, and this very process counts as its hub and trainer; every figure is the run's own.
"""

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from textual.pilot import Pilot

from tuitune.bus.envelope import decode
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Process, read_manifest, write_manifest
from tuitune.workbench.app import Workbench
from tuitune.workbench.views.compare_view import comparison_path
from tuitune.workbench.views.view import View

Prepare = Callable[[Pilot[None], Path], Awaitable[None]]


def steered_run(folder: Path) -> Path:
    """The steered run in a picture's workspace."""
    return max((folder / "runs").iterdir(), key=lambda run: (run / "steered").exists())


def take_along(run: Path, folder: Path) -> None:
    """Put the recorded run into a picture's workspace."""
    copy = folder / "runs" / run.name
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("checkpoints", "adapter", "connection.json"))
    (copy / "steered").touch()


def as_it_was(run: Path, until: Callable[[dict[str, object]], bool]) -> None:
    """Cut the run's journals before the first trainer's record that `until` holds for, and let the run live."""
    end = None
    for journal in (run / "journal" / "trainer-1.jsonl", run / "journal" / "hub.jsonl"):
        kept = []
        for line in journal.read_bytes().splitlines(keepends=True):
            record = decode(line) or {}
            if end is None and journal.stem != "hub" and until(record):
                end = record["t"]
            if end is not None and record.get("t", 0) >= end:
                break
            kept.append(line)
        journal.write_bytes(b"".join(kept))
    manifest = read_manifest(RunDirectory(run))
    manifest.state, manifest.ended, manifest.why, manifest.host = "running", None, None, os.uname().nodename
    manifest.hub = manifest.trainer = Process.of(os.getpid())
    write_manifest(RunDirectory(run), manifest)


def at_step(step: int) -> Callable[[dict[str, object]], bool]:
    """Holds from the first log after a step on."""
    return lambda record: record.get("ev") == "metrics" and int(str(record.get("step"))) > step


def paused(record: dict[str, object]) -> bool:
    """Holds when the run goes on after its pause."""
    return record.get("ev") == "applied" and record.get("op") == "resume"


async def _view(pilot: Pilot[None], kind: str, path: Path) -> View:
    app = pilot.app
    assert isinstance(app, Workbench)
    view = await app.open_view(kind, path)
    assert view is not None
    view.focus_content()
    feeds = getattr(view, "feeds", None) or [getattr(view, "feed")]  # noqa: B009
    while not all(feed.caught_up for feed in feeds):
        await pilot.pause(0.2)
    await pilot.pause(2.5)  # one more paint, and the status bar
    return view


def dashboard(until: Callable[[dict[str, object]], bool], *keys: str) -> Prepare:
    """The dashboard of the steered run as it was, and the keys pressed then; "wait" waits for a question to open."""

    async def prepare(pilot: Pilot[None], folder: Path) -> None:
        run = steered_run(folder)
        as_it_was(run, until)
        await _view(pilot, "run", run)
        for key in keys:
            await (pilot.pause(0.7) if key == "wait" else pilot.press(key))

    return prepare


async def comparison(pilot: Pilot[None], folder: Path) -> None:
    """Every run of the workspace beside the others."""
    await _view(pilot, "compare", comparison_path(folder / "runs", sorted(run.name for run in (folder / "runs").iterdir())))


async def ended_chat(pilot: Pilot[None], folder: Path) -> None:
    """The recorded chat, as it is opened again."""
    await _view(pilot, "chat", steered_run(folder))


LAST = 10**9
SCENES: dict[str, Prepare] = {
    "steer-rate": dashboard(at_step(24), "r", "wait", *"2e-4 linear", "enter", "wait"),
    "steer-bar": dashboard(at_step(24), "colon", *"set learning_rate=2e-4 k", "tab", "h", "tab"),
    "steer-paused": dashboard(paused),
    "steer-batch": dashboard(at_step(24), "b", "wait", *"1 x 4", "enter", "wait"),
    "steer-marks": dashboard(at_step(LAST), *["left_square_bracket"] * 3),
    "steer-queue": dashboard(at_step(LAST), "q"),
    "comparison": comparison,
}
