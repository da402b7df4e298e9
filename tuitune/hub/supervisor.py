"""The hub: one small process per run that owns the trainer, or the process of a job (tuitune.after), and tells its story.

It starts the trainer, passes commands on, samples GPU and host once a second, copies the trainer's log into the journal, keeps the
manifest true, says in plain words why a trainer died or hangs, and starts the next attempt when the recipe or a command wants one
(tuitune.hub.life). It lives in its own session, so neither a hang-up nor the death of whoever started it reaches it. Imports no torch: it
must survive what happens to the trainer. Killed itself, it is followed by another hub, which adopts the trainer that lives on.
"""

import fcntl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tuitune.errors import UserError
from tuitune.hub.life import RunLife
from tuitune.hub.trainer_process import find_trainer
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest
from tuitune.runs.resume import refusal

LOCK_S = 2.0  # a lock without a living hub is waited for


def supervise(path: Path, trainer_command: Sequence[str] | None = None) -> int:
    """Run the hub of the run at `path` until the run ends; 0 when that went well, else 1. UserError before anything was started.

    A run that had a hub before goes on: with the trainer that is still alive, else with a next attempt.
    """
    run = RunDirectory(path.resolve())
    read_manifest(run)  # says so when this is no run at all
    try:
        with _lock(run):
            manifest = read_manifest(run)
            trainer = find_trainer(run, manifest) if manifest.hub is not None else None
            if manifest.hub is not None and trainer is None:
                if why := refusal(manifest):
                    raise UserError(f"{run.name} does not go on: {why}")
                manifest.retried.clear()  # somebody has looked at it and wants it to go on
            module = "tuitune.trainer" if manifest.kind == "train" else "tuitune.after"
            # -P: a datasets.py or json.py in the user's folder must not take the place of the library
            command = trainer_command or [sys.executable, "-P", "-m", module, str(run.path)]
            return RunLife(run, manifest, command, trainer).run_to_end()
    except OSError as error:
        raise UserError(f"{error.filename or run.path}: {error.strerror}; the hub of {run.name} cannot go on") from error


@contextmanager
def _lock(run: RunDirectory) -> Iterator[None]:
    """Hold hub.lock: two hubs of one run never live. The threads of a killed hub may hold it for some milliseconds more."""
    with run.lock.open("w") as file:
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                hub = read_manifest(run).hub
                if (hub is not None and hub.alive()) or time.monotonic() > deadline:
                    raise UserError(f"{run.name} has a hub already; attach to it: tuitune attach {run.name}") from None
                time.sleep(0.05)
        yield
