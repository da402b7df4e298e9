"""Start a run: check its recipe, make its directory and its hub, and return as soon as the hub lives by itself."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tuitune.errors import UserError
from tuitune.processes import our_environment
from tuitune.recipe.document import read_document
from tuitune.recipe.recipe import from_document
from tuitune.recipe.report import one_line
from tuitune.recipe.schema import load_schema
from tuitune.recipe.validate import validate
from tuitune.runs.directory import RunDirectory, create_workspace_run
from tuitune.runs.manifest import ENDED, Manifest, read_manifest, write_manifest
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
    run = create_workspace_run(workspace, runs, name, recipe_text)
    try:
        manifest = Manifest(name, recipe_path=str(recipe_path.resolve()), workspace=str(workspace.resolve()), overridden=list(overridden))
        write_manifest(run, manifest)
    except OSError as error:
        raise UserError(f"{run.path} cannot be written ({error.strerror}); make room there and try again") from error
    start_hub(run, workspace)
    return run


def start_hub(run: RunDirectory, workspace: Path, hub_command: Sequence[str] | None = None) -> None:
    """Spawn `python -m tuitune.hub` for this run and wait until it has opened its sockets.

    UserError with its last words when it does not get there. A run that fails once it has a hub is no error here: its journal says why.
    """
    log = run.log / "hub.txt"
    with log.open("ab") as output:
        hub = subprocess.Popen(
            hub_command or [sys.executable, "-P", "-m", "tuitune.hub", str(run.path)],
            cwd=workspace,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=our_environment(),
        )
    deadline = time.monotonic() + START_LIMIT_S
    while not run.connection.exists():
        if hub.poll() is not None:
            if read_manifest(run).state in ENDED:
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
    """The error to raise; the run is marked as failed first, so that nobody waits for it."""
    with contextlib.suppress(OSError, UserError):
        manifest = read_manifest(run)
        manifest.state, manifest.why, manifest.ended = "failed", why, time.time()
        write_manifest(run, manifest)
    return UserError(f"the hub of {run.name} did not start: {why} (see {run.log / 'hub.txt'})")
