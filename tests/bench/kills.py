"""Runs that are killed again and again must end with the losses of one that nobody touched: real SFT and DPO on the CPU.

    python -m tests.bench.kills --kills 50 --seed 1          one JSON document; exit status 1 when a run differs or does not end

At seeded times, and on purpose in the middle of saves and evaluations, one of hub, trainer, both, a viewer (`tuitune attach`), or an
analyst that counts the run's data gets SIGKILL; then the run is resumed as `tuitune resume` does. The model is tiny (--model: another), so
a save takes some milliseconds: what counts as killed in a save is told by the last state that the trainer could write.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.tiny_model import make_tiny_model, write_rows
from tuitune.analyst.client import COMMAND as ANALYST
from tuitune.bus.envelope import VERSION, encode
from tuitune.bus.journal import JournalTail
from tuitune.errors import UserError
from tuitune.hub.launch import launch_recipe, resume_run
from tuitune.recipe.schema import load_schema
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Process, read_manifest

RECIPE = """task: {task}
model: {{name_or_path: {model}, dtype: float32}}
peft: {{r: 8, lora_alpha: 16, target_modules: all-linear, lora_dropout: 0.2}}
launch: {{gpus: cpu}}
dataset:
  train: [{{path: train.jsonl, columns: {columns}}}]
  eval: [{{path: train.jsonl, columns: {columns}, max_rows: 8}}]
training: {{max_steps: {steps}, learning_rate: 1.0e-3, logging_steps: 1, per_device_train_batch_size: 2, gradient_accumulation_steps: 2,
  max_length: 64, save_strategy: steps, save_steps: 4, save_total_limit: 3, eval_strategy: steps, eval_steps: 6}}
"""
COLUMNS = {"sft": "{user: question, assistant: answer}", "dpo": "{prompt: q, chosen: good, rejected: bad}"}
VICTIMS = ("trainer", "hub", "both", "viewer", "analyst")
NOT_THE_RUN = ("viewer", "analyst")
AIMS = ("any", "any", "saving", "saving", "evaluating")
LONGEST = 120.0  # seconds until an aim is given up


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    os.environ.update({"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"})
    load_schema()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or make_tiny_model(Path(folder, "model"))
        dice = random.Random(arguments.seed)
        found = [
            killed(Path(folder, task), task, model, arguments.steps, dice, arguments.kills // 2 + arguments.kills % 2 * (task == "sft"))
            for task in COLUMNS
        ]
    print(json.dumps({"schema": 1, "seed": arguments.seed, "runs": found}, indent=1))
    return 0 if all(one["equal"] for one in found) else 1


def killed(folder: Path, task: str, model: Path, steps: int, dice: random.Random, kills: int) -> dict[str, Any]:
    """One task: an undisturbed run, then runs with `kills` kills in all, each compared with it."""
    folder.mkdir()
    if task == "dpo":
        rows = [{"q": f"the cat {number}", "good": "sat on the mat", "bad": "ran to the sea"} for number in range(48)]
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        write_rows(folder / "train.jsonl")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(task=task, model=model, columns=COLUMNS[task], steps=steps))
    started = time.monotonic()
    whole = launch_recipe(recipe, folder)
    wait_for_end(whole)
    truth = losses(whole)
    done, runs, equal = Counter[str](), 0, len(truth) == steps
    while sum(count for name, count in done.items() if name.startswith("victim ")) < kills:
        run, runs = launch_recipe(recipe, folder), runs + 1
        while sum(count for name, count in done.items() if name.startswith("victim ")) < kills:
            if not strike(run, dice, done):
                break
            go_on(run)
        go_on(run)
        wait_for_end(run)
        equal = equal and losses(run) == truth and read_manifest(run).state == "done"
    return {"task": task, "runs": runs, "equal": equal, "seconds": round(time.monotonic() - started), **dict(sorted(done.items()))}


def strike(run: RunDirectory, dice: random.Random, done: Counter[str]) -> bool:
    """Wait for the moment, and kill; False when the run had ended before."""
    aim, victim, patience = dice.choice(AIMS), dice.choice(VICTIMS), dice.uniform(0.0, 8.0)
    viewer = subprocess.Popen([sys.executable, "-m", "tuitune", "attach", str(run.path), "--json"], stdout=subprocess.DEVNULL)
    analyst = subprocess.Popen(ANALYST, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) if victim == "analyst" else None
    if analyst is not None and analyst.stdin is not None:
        request = {"v": VERSION, "id": "1", "op": "survey", "args": {"recipe": str(run.path.parents[1] / "recipe.yaml")}}
        analyst.stdin.write(encode(request))
        analyst.stdin.flush()
    tail, deadline, state = JournalTail(run.journal), time.monotonic() + (patience if aim == "any" else LONGEST), ""
    try:
        while time.monotonic() < deadline:
            for record in tail.poll():
                if record["ev"] == "state" and record["src"] != "hub":
                    state = record["s"]
            if state == aim and aim != "any":
                break
            if read_manifest(run).state == "done":
                return False
            time.sleep(0.002 if aim != "any" else 0.02)
        manifest = read_manifest(run)
        targets: dict[str, list[Process | None]] = {"trainer": [manifest.trainer], "hub": [manifest.hub]}
        targets["both"] = dice.sample([manifest.hub, manifest.trainer], 2)
        for process in targets.get(victim, []):
            if process is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
    finally:
        for other in filter(None, (viewer, analyst)):
            other.kill()
            other.wait()
    last = [record["s"] for record in JournalTail(run.journal).poll() if record["ev"] == "state" and record["src"] != "hub"]
    done[f"victim {victim}"] += 1
    if victim not in NOT_THE_RUN:
        done[f"in {last[-1] if last else 'starting'}"] += 1
    return True


def go_on(run: RunDirectory) -> None:
    """Resume a run that has ended before its time or lost its hub; one that lives is left alone."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        manifest = read_manifest(run)
        hub = manifest.hub is not None and manifest.hub.alive()
        trainer = manifest.trainer is None or manifest.trainer.alive()
        if manifest.state == "done" or (hub and trainer):
            return
        if not hub:
            with suppress(UserError):  # its lock may be held for a moment more
                resume_run(run)
                return
        time.sleep(0.1)  # its hub is just telling how the trainer has ended


def wait_for_end(run: RunDirectory) -> None:
    """Until it is done; RuntimeError after ten minutes."""
    deadline = time.monotonic() + 600
    while read_manifest(run).state != "done":
        if time.monotonic() > deadline:
            raise RuntimeError(f"{run.path}: {read_manifest(run)}")
        if read_manifest(run).living_state() in ("failed", "lost"):
            go_on(run)
        time.sleep(0.2)


def losses(run: RunDirectory) -> list[float]:
    """Step by step, of the attempt that trained a step last."""
    found = {record["step"]: record["loss"] for record in JournalTail(run.journal).poll() if record["ev"] == "metrics"}
    return [found[step] for step in sorted(found)]


if __name__ == "__main__":
    sys.exit(main())
