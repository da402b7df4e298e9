"""A load for the terminal bench: journals a run as hub and trainer would.

    python -m tests.bench.event_stream WORKSPACE EVENTS_PER_SECOND HISTORY

TEST LOAD, not a trainer: the figures are made up (tests/support/journals.py). It journals HISTORY events at once, then metrics at the rate
asked for and one GPU and host sample a second, names itself in the manifest as the run's processes, and goes on until it is ended.
"""

import itertools
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.support import journals
from tuitune.bus.journal import Journal
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.manifest import Manifest, Process, write_manifest

STEPS = 1_000_000


def emit(journal: Journal, record: dict[str, Any]) -> None:
    """Journal a made-up record at the time it is written."""
    journal.emit(record["ev"], **{name: value for name, value in record.items() if name not in ("ev", "t")})


def start(workspace: Path) -> RunDirectory:
    """A new run in `workspace`/runs whose processes are this one."""
    run = create_run(workspace / "runs", "stream", journals.RECIPE)
    own = Process.of(os.getpid())
    manifest = Manifest(name="stream", recipe_path=str(workspace / "recipe.yaml"), workspace=str(workspace), state="running")
    manifest.hub = manifest.trainer = own
    manifest.step, manifest.max_steps = 0, STEPS
    write_manifest(run, manifest)
    return run


def write(run: RunDirectory, rate: float, history: int) -> None:
    """Journal for ever: `history` events at once, then `rate` a second."""
    hub, trainer = Journal(run.journal / "hub.jsonl"), Journal(run.journal / "trainer-1.jsonl")
    records = journals.trainer_records(STEPS, step_seconds=1 / rate, gpus=1)
    for record in itertools.islice(records, history):
        emit(trainer, record)
    began, sampled = time.monotonic(), 0.0
    for number, record in enumerate(records):
        emit(trainer, record)
        now = time.monotonic()
        if now - sampled >= 1:
            sampled = now
            emit(hub, journals.gpu_record(time.time()))
            emit(hub, journals.host_record(time.time()))
        if (ahead := began + number / rate - now) > 0:
            time.sleep(ahead)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    write(start(Path(sys.argv[1])), float(sys.argv[2]), int(sys.argv[3]))
