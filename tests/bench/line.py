"""What a bad line costs a training: a real run on this box, with a workbench on a line that is good, stalls, is slow, or goes away.

The same run goes through all of it, each stretch after one without any viewer, so that the box's own spread is in the answer too.
Stretches: `alone`, `good`, `stalled` (nothing is read for the whole stretch, then it must recover), `slow` (20 kB/s, and the terminal's
answers come 400 ms late: 200 ms each way), `closed` (hung up while it drew).
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tests.support.terminal import Terminal
from tests.support.tiny_model import make_tiny_model, write_rows
from tuitune.bus.journal import JournalTail
from tuitune.hub.launch import launch_recipe
from tuitune.recipe.schema import load_schema
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest

STRETCH_S = 30.0
RATE = 20_000  # bytes a second
LATE_S = 0.4
RECIPE = """task: sft
model: {{name_or_path: {model}}}
peft: {{r: 8, lora_alpha: 16, target_modules: all-linear}}
launch: {{gpus: cpu}}
dataset:
  train: [{{path: train.jsonl, columns: {{user: question, assistant: answer}}}}]
training: {{max_steps: 1000000, learning_rate: 1.0e-5, logging_steps: 1, per_device_train_batch_size: 8, max_length: 64,
  save_strategy: 'no'}}
"""


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Median milliseconds a step in each stretch; `recovered_s`: from the end of the stall until the newest step was on screen;
    `slow_noticed_s`: from the start of the workbench until its status bar called the line slow; `bytes_per_second` to the
    terminal, over the second half of a stretch."""
    os.environ["OMP_NUM_THREADS"] = "1"
    load_schema()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "train.jsonl")
        recipe = folder / "recipe.yaml"
        recipe.write_text(RECIPE.format(model=arguments.model or make_tiny_model(folder / "model")))
        run = launch_recipe(recipe, folder)
        try:
            wait_for_steps(run)
            return stretches(run, folder)
        finally:
            trainer = read_manifest(run).trainer
            if trainer is not None:
                os.kill(trainer.pid, signal.SIGKILL)


def stretches(run: RunDirectory, folder: Path) -> dict[str, Any]:
    found: dict[str, list[float]] = {"alone": []}
    told: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for kind in ("good", "stalled", "slow", "closed"):
        found["alone"].append(pace(run, STRETCH_S))
        with workbench(folder, RATE if kind == "slow" else None) as terminal:
            show_run(terminal)
            if kind == "stalled":
                terminal.stalled.set()
            if kind == "closed":
                terminal.hang_up()
                began = time.monotonic()
                terminal.process.wait(20)
                told["closed_gone_s"] = round(time.monotonic() - began, 2)
            found[kind] = [pace(run, STRETCH_S)]
            if kind == "stalled":
                terminal.stalled.clear()
                told["recovered_s"] = newest_shown(run, terminal)
            if kind in ("good", "slow"):
                since = time.monotonic() - STRETCH_S / 2  # the first screen is over, and a slow line known
                sizes[kind] = round(sum(len(data) for when, data in terminal.chunks if when > since) / (STRETCH_S / 2))
            if kind == "slow":
                terminal.wait_for("slow line", 30)
                told["slow_noticed_s"] = round(first_time(terminal, b"slow line") - terminal.started, 1)
    return {"step_ms": {kind: [round(value, 2) for value in values] for kind, values in found.items()}, "bytes_per_second": sizes, **told}


def first_time(terminal: Terminal, wanted: bytes) -> float:
    """When that was first written (time.monotonic())."""
    return next(when for when, data in terminal.chunks if wanted in data)


def pace(run: RunDirectory, seconds: float) -> float:
    """Median milliseconds of a step over the next seconds."""
    tail = JournalTail(run.journal, only="trainer-1")
    while tail.poll():
        pass
    time.sleep(seconds)
    return median(record["step_ms"] for record in tail.poll(64 << 20) if record["ev"] == "metrics" and record["step_ms"])


def wait_for_steps(run: RunDirectory) -> None:
    while (read_manifest(run).step or 0) < 20:
        time.sleep(0.2)


@contextmanager
def workbench(folder: Path, rate: float | None) -> Iterator[Terminal]:
    command = [sys.executable, "-m", "tuitune", "open", str(folder)]
    with Terminal(
        command, bytes_per_second=rate, answers_after=LATE_S if rate else 0.0, cwd=Path.cwd(), env={"TUITUNE_WARM_UP": "0"}
    ) as terminal:
        terminal.wait_for("recipe.yaml", 30)
        yield terminal


def show_run(terminal: Terminal) -> None:
    deadline = time.monotonic() + 30
    while "grad" not in terminal.screen():
        if time.monotonic() > deadline:
            raise SystemExit(f"the dashboard never came:\n{terminal.screen()}")
        terminal.send("alt+r")
        time.sleep(1)


def newest_shown(run: RunDirectory, terminal: Terminal) -> float:
    """Seconds until a step that was made after now is on screen."""
    began, step = time.monotonic(), read_manifest(run).step or 0
    while time.monotonic() < began + 30:
        shown = terminal.screen()
        if any(word.isdecimal() and int(word) > step for word in shown.replace("/", " ").replace(",", "").split() if word != "1000000"):
            return round(time.monotonic() - began, 2)
        time.sleep(0.05)
    raise SystemExit(f"it never caught up:\n{terminal.screen()}")
