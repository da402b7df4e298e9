"""Run directories for tests: records of exactly the shape that hub and trainer write, with made-up figures.

TEST DATA. Nothing in tuitune reads this module; figures here are drawn from a seeded generator so that charts have something to show.
What the real program writes is checked by tests/e2e on real runs.
"""

import json
import math
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tuitune.bus.envelope import encode
from tuitune.runs import manifest as manifest_module
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Manifest, Process

GIB = 1 << 30
START = 1_795_000_000.0
RECIPE = """\
name: gsm8k
task: sft
model:
  name_or_path: HuggingFaceTB/SmolLM2-135M-Instruct
peft:
  r: 16
training:
  learning_rate: 2.0e-4
  max_steps: 60
"""
LEDGER = [
    ("model", "name_or_path", "HuggingFaceTB/SmolLM2-135M-Instruct", "recipe", 4, None),
    ("model", "dtype", "bfloat16", "default", None, None),
    ("model", "attn_implementation", "sdpa", "adjusted", None, "auto: the fastest correct one on this box"),
    ("peft", "r", 16, "recipe", 6, None),
    ("training", "learning_rate", 2.0e-4, "recipe", 8, None),
    ("training", "max_steps", 60, "recipe", 9, None),
    ("training", "per_device_train_batch_size", 4, "recipe", 10, None),
    ("training", "gradient_accumulation_steps", 4, "recipe", 11, None),
    ("training", "lr_scheduler_type", "linear", "default", None, None),
    ("training", "use_cpu", True, "adjusted", None, "no NVIDIA GPU on this box"),
    ("recipe", "task", "sft", "recipe", 2, None),
    ("training", "packing", False, "default", None, None),
    ("training", "dataloader_num_workers", 0, "default", None, None),
]

# the arithmetic of a 1.5B model with LoRA, as its trainer counts it
WORK = {
    **{"weights": 1_310_000_000, "head": 233_000_000, "layers": 28, "query_width": 1536, "window": None, "full": False},
    **{"recompute": 1.0, "reference": False, "why": None},
}

# what a trainer of issue E takes while it trains
LIVE_CAPS: list[dict[str, Any]] = [
    {
        "name": "set",
        "effect": "step",
        "keys": [
            {"name": "learning_rate", "type": "float", "min": 0.0, "max": None, "value": 2.0e-4},
            {"name": "lr_scheduler", "type": "choice", "choices": ["constant", "linear", "cosine"], "value": "linear"},
            {"name": "max_steps", "type": "int", "min": 1, "max": None, "value": 60},
            {"name": "logging_steps", "type": "int", "min": 1, "max": None, "value": 1},
            {"name": "save_steps", "type": "int", "min": 1, "max": None, "value": 25},
            {"name": "eval_steps", "type": "int", "min": 1, "max": None, "value": 20},
        ],
    },
    {"name": "pause", "effect": "step", "modes": ["trim", "keep", "suspend"]},
    *({"name": name, "effect": "step"} for name in ("resume", "save", "evaluate", "sample", "stop")),
    {"name": "reshape", "effect": "restart"},
]


def numbered(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The records with version and sequence number, as one file holds them."""
    for sequence, record in enumerate(records):
        yield {"v": 1, "n": sequence, **record}


def trainer_records(
    steps: int = 60,
    *,
    first: int = 1,
    start: float = START,
    step_seconds: float = 0.5,
    max_steps: int | None = None,
    gpus: int = 0,
    caps: Sequence[dict[str, Any]] = ({"name": "stop"}, {"name": "save"}, {"name": "evaluate"}),
    waits: bool = False,
) -> Iterator[dict[str, Any]]:
    """What a trainer writes from loading to its last step; evaluates each 20 steps and saves a checkpoint each 25. `waits`: it tells where
    the time of its steps goes, a fifth of it to the data."""
    dice = random.Random(first)
    last = max_steps or steps
    yield {
        "t": start,
        "ev": "hello",
        "proto": 1,
        "pid": 4711,
        "host": "box",
        "world": 1,
        "versions": {"torch": "2.13.0"},
        "devices": [{"uuid": f"GPU-{index:08x}", "name": "NVIDIA H200"} for index in range(gpus)],
        "work": WORK if waits else None,
        "caps": list(caps),
    }
    yield {"t": start + 0.1, "ev": "state", "s": "loading", "step": first - 1}
    yield {"t": start + 4, "ev": "state", "s": "running", "step": first - 1}
    for step in range(first, steps + 1):
        now = start + 4 + (step - first + 1) * step_seconds
        loss = 0.6 + 1.9 * math.exp(-step / (last / 5)) + dice.gauss(0, 0.05)
        yield {
            "t": now,
            "ev": "metrics",
            "step": step,
            "max_steps": last,
            "epoch": round(step / last * 3, 4),
            "loss": round(loss, 4),
            "grad_norm": round(0.4 + 2 * math.exp(-step / 10) + abs(dice.gauss(0, 0.1)), 4),
            "learning_rate": 2e-4 * max(0.0, 1 - step / last),
            "tokens": step * 4096,
            "tokens_per_second": 4096 / step_seconds + dice.gauss(0, 200),
            "step_ms": step_seconds * 1000,
            "mean_token_accuracy": round(1 - loss / 4, 4),
            "entropy": round(loss * 0.9, 4),
            "mem": torch_memory(step, gpus),
            "parts": step_parts(step_seconds, gpus) if waits else None,
        }
        if step % 20 == 0:
            yield {"t": now + 0.1, "ev": "state", "s": "evaluating", "step": step}
            yield {"t": now + 0.3, "ev": "eval", "step": step, "metrics": {"eval_loss": round(loss + 0.1, 4), "eval_runtime": 0.2}}
            yield {"t": now + 0.3, "ev": "state", "s": "running", "step": step}
        if step % 25 == 0:
            yield {
                "t": now + 0.4,
                "ev": "checkpoint",
                "step": step,
                "path": f"checkpoints/checkpoint-{step}",
                "bytes": 39_000_000,
                "seconds": 0.2,
                "complete": True,
            }


def step_parts(step_seconds: float, gpus: int) -> dict[str, Any]:
    """Where the time of a step goes, as tuitune.trainer.step_parts tells it."""
    wall = 1000 * step_seconds
    return {
        "steps": 1,
        "wall_ms": wall,
        "data_ms": 0.2 * wall,
        "gpu_behind_ms": 0.4 * wall if gpus else None,
        "tokens_computed": 5888.0,
        "padding_share": 0.28,
    }


def proof_record(time: float = START + 3, *, planned: float = 9.0, measured: float = 9.2) -> dict[str, Any]:
    """The proof of a longest batch: its highest allocated figure in GiB, by the plan and measured."""
    pairs = {"load": (3.0, 3.0), "optimizer step": (3.5, 3.5), "forward": (7.0, 7.1), "backward": (planned, measured)}
    return {
        "t": time,
        "ev": "proof",
        "step": 0,
        "batch": {"rows": 4, "length": 2048, "tokens": 8192, "scored": 1.0},
        "eval_batch": None,
        "seconds": 1.4,
        "plan": None,
        "measured": None,
        "calibrated": 3,
        "phases": [{"phase": name, "planned": int(one * GIB), "measured": int(other * GIB)} for name, (one, other) in pairs.items()],
        "components": [{"name": "CUDA context and kernels", "planned": 764 << 20, "measured": 700 << 20}],
        "allocated": {"planned": int(planned * GIB), "measured": int(measured * GIB)},
        "process": {"planned": int(10.4 * GIB), "measured": int(10.2 * GIB)},
    }


def torch_memory(step: int, gpus: int) -> list[dict[str, int]] | None:
    """torch's figures for each GPU, None on a CPU box."""
    if not gpus:
        return None
    allocated = int((6.1 + 0.4 * (step % 3)) * GIB)
    return [{"alloc": allocated, "reserved": int(9.5 * GIB), "peak_alloc": int(8.8 * GIB), "peak_reserved": int(9.5 * GIB)}] * gpus


def gpu_record(time: float, gpus: int = 1, *, busy: bool = True) -> dict[str, Any]:
    """One sample of the hub: an H200 each, with somebody else's process beside ours on the first."""
    devices = [
        {
            "index": index,
            "uuid": f"GPU-{index:08x}",
            "name": "NVIDIA H200",
            "util": 97 if busy else 0,
            "mem_used": 21 * GIB,
            "mem_total": 140 * GIB,
            "proc_mem": int(10.2 * GIB) if busy else None,
            "others": [{"pid": 999, "user": "ada", "name": "python", "mem": int(10.1 * GIB)}] if index == 0 else [],
            "power": 540.0,
            "power_limit": 700.0,
            "temp": 61,
            "sm_clock": 1980,
            "mem_clock": 3201,
            "reasons": ["sw power cap"] if busy else [],
            "ecc": 0,
        }
        for index in range(gpus)
    ]
    return {"t": time, "ev": "gpu", "devices": devices, "driver": "580.65", "error": None}


def host_record(time: float) -> dict[str, Any]:
    """One sample of the box."""
    return {
        "t": time,
        "ev": "host",
        "cpu": 83.0,
        "ram_used": 6 * GIB,
        "ram_total": 23 * GIB,
        "tree_rss": int(1.9 * GIB),
        "disk_free": 80 * GIB,
    }


def hub_records(
    seconds: int = 36, *, start: float = START, gpus: int = 0, final: str | None = "done", step: int = 60
) -> Iterator[dict[str, Any]]:
    """What the hub writes beside a trainer: samples at 1 Hz, log lines, and how it ended (`final` None = still running)."""
    yield {"t": start - 0.5, "ev": "hello", "proto": 1, "pid": 4700, "host": "box"}
    yield {"t": start - 0.4, "ev": "state", "s": "starting"}
    for second in range(seconds):
        if gpus:
            yield gpu_record(start + second, gpus)
        elif second == 0:
            yield {"t": start, "ev": "gpu", "devices": [], "driver": None, "error": "no NVIDIA GPU: training runs on the CPU"}
        yield host_record(start + second)
        if second % 5 == 0:
            yield {
                "t": start + second,
                "ev": "log",
                "rank": 0,
                "stream": "stderr",
                "text": f"step output at second {second}",
                "offset": second * 40,
            }
    if final == "crash":
        yield {
            "t": start + seconds,
            "ev": "crash",
            "rc": 1,
            "signal": None,
            "class": "gpu out of memory",
            "last_step": step,
            "traceback": "Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory.",
            "hint": "The GPU ran out of memory at step 60: halve per_device_train_batch_size.",
            "tail": ["torch.OutOfMemoryError"],
        }
        yield {"t": start + seconds, "ev": "end", "step": step, "reason": "failed"}
    elif final:
        yield {"t": start + seconds, "ev": "state", "s": final, "step": step}
        yield {"t": start + seconds, "ev": "end", "step": step, "reason": final}


def write_run(
    root: Path,
    name: str = "gsm8k-20261120-101500",
    *,
    steps: int = 60,
    max_steps: int | None = None,
    gpus: int = 0,
    final: str | None = "done",
    attempts: int = 1,
    **told: Any,
) -> Path:
    """A run directory under `root`; `attempts` 2 resumes from the checkpoint at 25 after the first died at step 40.

    told: what else trainer_records takes.
    """
    run = root / name
    (run / "journal").mkdir(parents=True)
    (run / "log").mkdir()
    (run / "recipe.yaml").write_text(RECIPE)
    entries = [dict(zip(("section", "key", "value", "source", "line", "why"), row)) for row in LEDGER]
    (run / "effective.json").write_text(json.dumps({"schema": 1, "values": entries}))
    first_steps = steps if attempts == 1 else min(40, steps)
    append(run, "trainer-1", numbered(trainer_records(first_steps, max_steps=max_steps or steps, gpus=gpus, **told)))
    seconds = 6 + first_steps // 2
    if attempts > 1:
        append(
            run, "trainer-2", numbered(trainer_records(steps, first=26, start=START + 60, max_steps=max_steps or steps, gpus=gpus, **told))
        )
        seconds = 66 + (steps - 25) // 2
    append(run, "hub", numbered(hub_records(seconds, gpus=gpus, final=final, step=steps)))
    write_manifest(run, state=final or "running", steps=steps, max_steps=max_steps or steps)
    return run


def write_manifest(run: Path, *, state: str, steps: int, max_steps: int) -> None:
    """The manifest that belongs to it, of a run whose processes are gone (a pid with a start time no process has)."""
    gone = Process(pid=1, start_ticks=-1)
    manifest = Manifest(
        name=run.name.rsplit("-", 2)[0],
        created=START,
        ended=None if state == "running" else START + 40,
        recipe_path="recipes/gsm8k.yaml",
        workspace=str(run.parent.parent),
        state="failed" if state == "crash" else state,
        why="The GPU ran out of memory at step 60." if state == "crash" else None,
        step=steps,
        max_steps=max_steps,
        loss=0.61,
        hub=gone,
        trainer=gone,
    )
    manifest_module.write_manifest(RunDirectory(run), manifest)


def living(run: Path) -> Path:
    """The run counts as alive: its hub and trainer are this very process."""
    manifest = manifest_module.read_manifest(RunDirectory(run))
    manifest.hub = manifest.trainer = Process.of(os.getpid())
    manifest_module.write_manifest(RunDirectory(run), manifest)
    return run


def append(run: Path, source: str, records: Iterable[dict[str, Any]]) -> None:
    """Append records to journal/<source>.jsonl."""
    with (run / "journal" / f"{source}.jsonl").open("ab") as file:
        for record in records:
            file.write(encode(record))
