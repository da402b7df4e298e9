"""Start a run: make its directory and its hub, and return as soon as the hub lives by itself."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.manifest import Manifest, write_manifest

START_LIMIT_S = 15.0


def launch(recipe_path: Path, *, recipe_text: str, name: str, runs_root: Path, workspace: Path) -> RunDirectory:
    """A new run of this recipe, its hub running in a session of its own; blocks until the hub answers (some 0.3 s).

    The hub has no terminal, no pipe to us and no parent that matters: closing the laptop does not reach it. UserError when the
    directory cannot be made or the hub dies at once, with the end of its log.
    """
    run = create_run(runs_root, name, recipe_text)
    try:
        write_manifest(run, Manifest(name=name, recipe_path=str(recipe_path.resolve()), workspace=str(workspace.resolve())))
    except OSError as error:
        raise UserError(f"{run.path} cannot be written ({error.strerror}); make room there and try again") from error
    start_hub(run, workspace)
    return run


def start_hub(run: RunDirectory, workspace: Path) -> None:
    """Spawn `python -m tuitune.hub` for this run and wait until it has opened its sockets."""
    log = run.log / "hub.txt"
    with log.open("ab") as output:
        hub = subprocess.Popen(
            [sys.executable, "-m", "tuitune.hub", str(run.path)],
            cwd=workspace,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": _python_path()},
        )
    deadline = time.monotonic() + START_LIMIT_S
    while not run.connection.exists():
        if hub.poll() is not None or time.monotonic() > deadline:
            # a run that fails within milliseconds has said why in its journal; only a hub that never got there is an error here
            if hub.returncode is not None and (run.journal / "hub.jsonl").exists():
                return
            said = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise UserError(f"the hub of {run.name} did not start: {said[0]} (all of it in {log})")
        time.sleep(0.02)


def _python_path() -> str:
    """Where this tuitune is, first: the hub must be of the same version even when it runs from a checkout that is not installed."""
    ours = str(Path(__file__).parents[2])
    inherited = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([ours, inherited]) if inherited else ours
