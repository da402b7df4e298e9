"""Start a run, or let one go on: check it, make its directory and its hub, and return as soon as the hub lives by itself."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuitune.bus.client import HubClient
from tuitune.bus.sockets import read_connection
from tuitune.errors import UserError
from tuitune.hub.logout import scope
from tuitune.processes import our_environment
from tuitune.recipe.document import read_document
from tuitune.recipe.recipe import from_document
from tuitune.recipe.report import one_line
from tuitune.recipe.schema import load_schema
from tuitune.recipe.validate import validate
from tuitune.runs.directory import RunDirectory, create_workspace_run
from tuitune.runs.manifest import ENDED, Manifest, read_manifest, write_manifest
from tuitune.runs.resume import go_back, log_of, refusal
from tuitune.text import printable

START_LIMIT_S = 60.0  # it takes 0.3 s; a busy box may be slow


def launch_recipe(path: Path, workspace: Path, *, checked: str | None = None, overridden: Sequence[str] = ()) -> RunDirectory:
    """A new run of the recipe file at `path`, started in the folder `workspace`; blocks as `launch` does.

    The file is read once, so what was checked is what trains: `checked` is the text that preflight saw, `overridden` the ids of the
    errors it found there that somebody passed over. UserError with every error in it, and then nothing was started.
    """
    document = read_document(path)
    if checked is not None and document.text != checked:
        raise UserError(f"{printable(str(path))} has changed since it was checked; nothing was started: start it again")
    errors = [problem for problem in validate(document, load_schema()) if problem.severity == "error"]
    if errors:
        count = "a problem" if len(errors) == 1 else f"{len(errors)} problems"
        listed = "\n".join(one_line(problem, path) for problem in errors)
        raise UserError(f"The recipe {printable(str(path))} has {count}; nothing was started:\n{listed}")
    recipe = from_document(document, path, path.parent)
    runs = recipe.output.get("runs", "runs")
    return launch(path, recipe_text=document.text, name=recipe.name, runs=runs, workspace=workspace, overridden=overridden)


def launch(
    recipe_path: Path, *, recipe_text: str, name: str, workspace: Path, runs: str = "runs", overridden: Sequence[str] = ()
) -> RunDirectory:
    """A new run of this recipe, its hub running in a session of its own; blocks until the hub answers (some 0.3 s).

    runs: `output.runs`, relative to the workspace. The hub has no terminal, no pipe to us and no parent that matters: closing the laptop
    does not reach it. UserError when the directory cannot be made or the hub dies at once, with the end of its log.
    """
    manifest = Manifest(name, recipe_path=str(recipe_path.resolve()), workspace=str(workspace.resolve()), overridden=list(overridden))
    return _launch(manifest, recipe_text, workspace, runs)


def launch_job(
    kind: str,
    args: dict[str, Any],
    *,
    name: str,
    recipe_text: str,
    recipe_path: Path | None,
    workspace: Path,
    runs: str = "runs",
) -> RunDirectory:
    """A new job `kind`-`name`-TIME: work on a trained model, with a run directory and a hub like a run; blocks as `launch` does.

    args: the job's own (tuitune.after), plain JSON; `gpus` in it wins over the recipe's, `gpu_bytes` says how much of a GPU it is content
    with beside a training. recipe_text: the recipe of the run whose result it is about, `recipe_path` that recipe's file.
    """
    path = str(recipe_path.resolve()) if recipe_path is not None else ""
    manifest = Manifest(f"{kind}-{name}", recipe_path=path, workspace=str(workspace.resolve()), kind=kind, job=args)
    return _launch(manifest, recipe_text, workspace, runs)


def _launch(manifest: Manifest, recipe_text: str, workspace: Path, runs: str) -> RunDirectory:
    run = create_workspace_run(workspace, runs, manifest.name, recipe_text)
    try:
        write_manifest(run, manifest)
    except OSError as error:
        raise UserError(f"{run.path} cannot be written ({error.strerror}); make room there and try again") from error
    start_hub(run, workspace)
    return run


@dataclass(frozen=True)
class Resumed:
    """What became of `resume_run`: `adopted` when the trainer still lived, else the attempt that started and from where (None: from the
    beginning)."""

    run: RunDirectory
    attempt: int
    resume_from: str | None
    adopted: bool
    words: str
    passed_over: tuple[str, ...] = ()


def resume_run(run: RunDirectory, start: str | None = None) -> Resumed:
    """Let a run go on that has failed, was stopped or suspended or has lost its hub; blocks as `launch` does.

    A trainer that still lives gets a new hub; else a hub starts the next attempt from the newest whole checkpoint, or from `start`: the
    later ones are then set aside. UserError when the run lives, has nothing left to do, that checkpoint is damaged, or the hub does not
    come up.
    """
    manifest = read_manifest(run)
    if manifest.hub is not None and manifest.hub.alive() and manifest.host == os.uname().nodename:
        if manifest.state != "suspended" or start:
            raise UserError(f"{run.name} lives (it is {manifest.state}): attach to it instead: tuitune attach {run.name}")
        return _wake(run, manifest)
    if why := refusal(manifest):
        raise UserError(f"{run.name} does not go on: {why}")
    workspace = Path(manifest.workspace)
    if not workspace.is_dir():
        raise UserError(f"{run.name} was started in {printable(manifest.workspace)}, which is gone: its recipe means files there")
    trainer = manifest.trainer
    aside = _go_back(run, manifest, start) if start else ""
    start_hub(run, workspace)
    after = read_manifest(run)
    if trainer is not None and after.trainer == trainer and trainer.alive():
        words = f"{run.name} has a new hub; its trainer had gone on (it is {after.state} at step {after.step or 0})"
        return Resumed(run, after.attempt, after.resume_from, True, words)
    if after.attempt == manifest.attempt and log_of(run, after.attempt).exists():
        words = f"{run.name} waits for a GPU that another run has, or for its checkpoints to be read through, and goes on then"
        return Resumed(run, after.attempt, None, False, words)
    return _resumed(run, after, aside)


def _go_back(run: RunDirectory, manifest: Manifest, start: str) -> str:
    """Make that checkpoint the newest; what was set aside for it, in words."""
    if manifest.kind != "train" or (manifest.trainer is not None and manifest.trainer.alive()):
        raise UserError(f"{run.name} does not go on from {printable(start, limit=80)}: it is no training that has ended")
    try:
        later = go_back(run, start)
    except UserError as error:
        raise UserError(f"{run.name} does not go on from there: {error}") from error
    return f"{', '.join(later)} set aside in {run.checkpoints / 'aside'}" if later else ""


def _wake(run: RunDirectory, manifest: Manifest) -> Resumed:
    """Have the hub of a suspended run start the next attempt."""
    reply = HubClient(run.path).send("resume", until="applied")
    if reply.get("error") or reply.get("s") != "applied":
        raise UserError(f"{run.name} stays suspended: {reply.get('error') or reply.get('s')}")
    deadline = time.monotonic() + START_LIMIT_S
    while (after := read_manifest(run)).attempt == manifest.attempt and after.state not in ENDED and time.monotonic() < deadline:
        time.sleep(0.02)
    return _resumed(run, after)


def _resumed(run: RunDirectory, manifest: Manifest, aside: str = "") -> Resumed:
    if manifest.kind != "train":
        return Resumed(run, manifest.attempt, None, False, f"{run.name} starts again, from its beginning")
    where = f"from {manifest.resume_from}" if manifest.resume_from else "from the beginning: it has no whole checkpoint"
    words = "; ".join([f"{run.name} goes on: attempt {manifest.attempt}, {where}", *manifest.passed_over, *([aside] if aside else [])])
    return Resumed(run, manifest.attempt, manifest.resume_from, False, words, tuple(manifest.passed_over))


def start_hub(run: RunDirectory, workspace: Path, hub_command: Sequence[str] | None = None) -> None:
    """Spawn `python -m tuitune.hub` for this run and wait until it has opened its sockets. It gets a systemd scope of its own where a
    logout would end it otherwise and the user lingers (tuitune.hub.logout).

    UserError with its last words when it does not get there. A run that fails once it has a hub is no error here: its journal says why.
    """
    log, before = run.log / "hub.txt", read_connection(run.connection)
    with log.open("ab") as output:
        hub = subprocess.Popen(
            [*scope(f"tuitune {run.name}"), *(hub_command or [sys.executable, "-P", "-m", "tuitune.hub", str(run.path)])],
            cwd=workspace,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=our_environment(),
        )
    deadline = time.monotonic() + START_LIMIT_S
    while (now := read_connection(run.connection)) is None or now == before:  # a killed hub leaves its connection behind
        if hub.poll() is not None:
            manifest = read_manifest(run)
            if manifest.state in ENDED and manifest.hub is not None and manifest.hub.pid == hub.pid:
                return
            raise _failed(run, _last_words(log))
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(hub.pid, signal.SIGKILL)
            hub.wait()
            raise _failed(run, f"it did not answer within {START_LIMIT_S:.0f} s")
        time.sleep(0.02)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return printable(lines[-1], limit=300) if lines else "it said nothing"


def _failed(run: RunDirectory, why: str) -> UserError:
    """The error to raise; a run that never had a hub is marked as failed first, so that nobody waits for it."""
    with contextlib.suppress(OSError, UserError):
        manifest = read_manifest(run)
        if manifest.hub is not None:
            return UserError(f"{run.name} got no hub: {why}")
        manifest.state, manifest.why, manifest.ended = "failed", why, time.time()
        write_manifest(run, manifest)
    return UserError(f"the hub of {run.name} did not start: {why} (see {run.log / 'hub.txt'})")
