"""What only a GPU can show of live control: orders, a long pause, kills and a true lack of memory, in 4-bit; one JSON document.

    python -m tests.bench.live_gpu --model DIR --gsm8k DIR [--parts cost,orders,kills,oom] [--pause 30]     the parts one after the other
    python -m tests.bench.live_gpu --model DIR --gsm8k DIR --parts orders --pause 600                       the long pause, by itself
    python -m tests.bench.live_gpu --cpu …                            the same logic in 4-bit on the CPU, without `oom`

Everything goes through the product: `launch_recipe`, the hub's sockets, the journals. The exit status is 1 when something does not hold.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import kills
from tuitune.bus.client import HubClient
from tuitune.bus.journal import JournalTail
from tuitune.hub.launch import launch_recipe
from tuitune.recipe.schema import load_schema
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import ENDED, read_manifest

PARTS = ("cost", "orders", "kills", "oom")
BOUNDARY_S = 120.0  # until an order is carried out; loading comes first
RECIPE = """task: sft
model: {{name_or_path: {model}}}
quantization: {{load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: true, bnb_4bit_compute_dtype: bfloat16}}
peft: {{r: 16, lora_alpha: 32, lora_dropout: 0.1, target_modules: all-linear}}
launch: {{gpus: {gpus}, proof: false}}
dataset:
  train: [{{path: {data}/train.jsonl, columns: {{user: question, assistant: answer}}, max_rows: {rows}}}]
  eval: [{{path: {data}/test.jsonl, columns: {{user: question, assistant: answer}}, max_rows: 8}}]
watch: {{prompts: ["What is 2 + 3?"], every: 100000, max_new_tokens: 16}}
training: {{max_steps: {steps}, learning_rate: 2.0e-4, logging_steps: 1, per_device_train_batch_size: {batch},
  gradient_accumulation_steps: {accumulation}, max_length: {length}, save_strategy: {save}, save_steps: 4, save_total_limit: 3}}
"""


class Living:
    """A run of this bench and its records."""

    def __init__(self, recipe: Path) -> None:
        self.run = launch_recipe(recipe, recipe.parent)
        self.records: list[dict[str, Any]] = []
        self.tail = JournalTail(self.run.journal)

    def read(self) -> list[dict[str, Any]]:
        """All records so far."""
        while batch := self.tail.poll():
            self.records += batch
        return self.records

    def told(self, event: str) -> list[dict[str, Any]]:
        return [record for record in self.read() if record["ev"] == event]

    def step(self) -> int:
        return max((record["step"] for record in self.told("metrics")), default=0)

    def wait_for_step(self, step: int, seconds: float = 300.0) -> None:
        """RuntimeError when it ends before, or takes longer."""
        deadline = time.monotonic() + seconds
        while self.step() < step:
            if read_manifest(self.run).state in ENDED or time.monotonic() > deadline:
                raise RuntimeError(
                    f"{self.run.name} is {read_manifest(self.run).state} at step {self.step()}: {read_manifest(self.run).why}"
                )
            time.sleep(0.02)

    def wait_for_end(self, seconds: float = 300.0) -> str:
        """The state it ended in."""
        deadline = time.monotonic() + seconds
        while (state := read_manifest(self.run).state) not in ENDED and time.monotonic() < deadline:
            time.sleep(0.05)
        return state


def written(folder: Path, arguments: argparse.Namespace, **values: Any) -> Path:
    """A recipe file in a folder of its own."""
    folder.mkdir(parents=True)
    defaults = {"rows": 512, "steps": 100_000, "batch": 4, "accumulation": 2, "length": 256, "save": "'no'"}
    gpus = "cpu" if arguments.cpu else 1
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=arguments.model.resolve(), data=arguments.gsm8k.resolve(), gpus=gpus, **defaults | values))
    return recipe


def cost(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Journal and control in a step (tests.bench.control_cost): at most 1 %."""
    command = [sys.executable, "-m", "tests.bench", "control-cost", "--model", str(arguments.model), "--gsm8k", str(arguments.gsm8k)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)["benches"]["control-cost"] if done.returncode == 0 else {"share": 1.0}
    return {**found, "holds": found["share"] <= 0.01}


def orders(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every order to a run in 4-bit: how soon the hub answers (ms, at most 50), and at which step it counts (the boundary after it)."""
    living = Living(written(folder, arguments))
    living.wait_for_step(5)
    plan: list[tuple[str, dict[str, Any]]] = [
        ("set", {"key": "learning_rate", "value": 5e-5}),
        ("set", {"key": "lr_scheduler", "value": "cosine"}),
        ("set", {"key": "logging_steps", "value": 1}),
        ("save", {}),
        ("evaluate", {}),
        ("sample", {}),
        ("reshape", {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}),
        *([] if arguments.cpu else [("snapshot", {})]),
        ("pause", {"mode": "trim"}),
        ("resume", {}),
        ("stop", {"save": True}),
    ]
    found: list[dict[str, Any]] = []
    holds, before = True, 0
    for op, given in plan:
        started = time.monotonic()
        reply = HubClient(living.run.path).send(op, given, id=f"{op}-{len(found)}")
        acknowledged, at = 1000 * (time.monotonic() - started), living.step()
        applied = _applied(living, f"{op}-{len(found)}")
        late = applied["step"] - at if applied else None
        holds = holds and reply.get("s") == "queued" and bool(applied and applied["ok"])
        found.append({"op": op, **given, "ack_ms": round(acknowledged, 1), "steps_after": late, "applied": applied})
        if op == "pause":
            before = living.step()
            time.sleep(arguments.pause)
            holds = holds and living.step() == before and read_manifest(living.run).state == "paused"
        elif op != "stop":
            living.wait_for_step(living.step() + 2)
    state = living.wait_for_end()
    acks = [one["ack_ms"] for one in found]
    after = [record["loss"] for record in living.told("metrics") if record["step"] in (before, before + 1)]
    return {
        "orders": found,
        "ack_ms_median": median(acks),
        "ack_ms_worst": max(acks),
        "pause_seconds": arguments.pause,
        "losses_at_the_pause": after,
        "memory_while_paused": _memory(living, paused=True),
        "memory_training": _memory(living, paused=False),
        "state": state,
        "holds": holds and state == "stopped" and median(acks) <= 50,
    }


def _applied(living: Living, id: str) -> dict[str, Any] | None:
    deadline = time.monotonic() + BOUNDARY_S
    while time.monotonic() < deadline:
        for record in living.told("applied"):
            if record["id"] == id:
                return {name: record.get(name) for name in ("step", "ok", "error", "old", "new")}
        time.sleep(0.01)
    return None


def _memory(living: Living, *, paused: bool) -> int | None:
    """Bytes of device memory that the run's processes hold at most (training) or at last (paused), by the hub's samples."""
    state, found = "", []
    for record in living.read():
        if record["ev"] == "state":
            state = record["s"]
        if record["ev"] == "gpu" and (state == "paused") == paused:
            found += [card["proc_mem"] for card in record["devices"] if card.get("proc_mem")]
    return (found[-1] if paused else max(found)) if found else None


def killed(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Ten kills at seeded times: the losses of an undisturbed run, step by step."""
    recipe = written(folder, arguments, steps=arguments.steps, save="steps")
    whole = Living(recipe)
    whole.wait_for_end()
    truth, dice, done = kills.losses(whole.run), random.Random(1), Counter[str]()
    differences, runs = [0.0], 0
    while struck(done) < arguments.kills:
        run, runs = launch_recipe(recipe, folder), runs + 1
        while struck(done) < arguments.kills and kills.strike(run, dice, done):
            kills.go_on(run)
        kills.go_on(run)
        kills.wait_for_end(run)
        found = kills.losses(run)
        differences += [abs(one - other) for one, other in zip(found, truth)] if len(found) == len(truth) else [float("inf")]
    worst = max(differences)
    equal = sum(one == 0 for one in differences[1:]) / max(1, len(differences) - 1)
    return {
        **dict(sorted(done.items())),
        "runs": runs,
        "steps": len(truth),
        "largest_difference": worst,
        "share_equal": equal,
        # the same data and random numbers; the last bits of CUDA's sums are not promised
        "holds": len(truth) == arguments.steps and worst <= (0.0 if arguments.cpu else 0.02),
    }


def struck(done: Counter[str]) -> int:
    """How many kills were dealt."""
    return sum(count for name, count in done.items() if name.startswith("victim "))


def out_of_memory(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """A true lack of memory: another process holds all but a part of the card, and the run splits its micro-batches by itself.

    The same run without it says what the losses should be and what it needs; --spare of that is left.
    """
    wanted = {"batch": 64, "accumulation": 1, "length": 512, "rows": 1024, "steps": 8}
    free = Living(written(folder / "free", arguments, **wanted))
    state = free.wait_for_end()
    truth, needs = (
        kills.losses(free.run),
        max((record["mem"]["peak_reserved"] for record in free.told("metrics") if record.get("mem")), default=0),
    )
    spare = int(needs * arguments.spare) + (1 << 30)  # and the CUDA context
    with ballast(spare):
        tight = Living(written(folder / "tight", arguments, **wanted))
        ended = tight.wait_for_end()
    found = kills.losses(tight.run)
    splits = tight.told("oom")
    worst = max((abs(one - other) for one, other in zip(found, truth)), default=float("inf"))
    return {
        "needs_bytes": needs,
        "spare_bytes": spare,
        "states": [state, ended],
        "why": read_manifest(tight.run).why,
        "oom_events": len(splits),
        "first_oom": splits[0] if splits else None,
        "attempts": read_manifest(tight.run).attempt,
        "losses": [truth, found],
        "largest_difference": worst,
        "holds": ended == "done" and bool(splits) and len(found) == len(truth) and worst <= 0.02,
    }


class ballast:
    """Another process that holds all of the card but `spare` bytes while the block runs."""

    def __init__(self, spare: int) -> None:
        self.spare = spare

    def __enter__(self) -> None:
        code = (
            "import sys, torch; free, _ = torch.cuda.mem_get_info();"
            f"held = torch.empty(max(0, free - {self.spare}), dtype=torch.uint8, device='cuda');"
            "print('held', flush=True); sys.stdin.read()"
        )
        self.process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"held\n":
            raise RuntimeError("the ballast could not be laid")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--gsm8k", type=Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--pause", type=float, default=20.0, help="seconds")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40, help="of the runs that are killed")
    parser.add_argument("--spare", type=float, default=0.7, help="share of its memory that a run is left")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--out", type=Path, help="also write the document there, after each part")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    load_schema()
    result: dict[str, Any] = {"schema": 1, "bench": "live_gpu"}
    functions = {"cost": cost, "orders": orders, "kills": killed, "oom": out_of_memory}
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.parts.split(","):
            started = time.monotonic()
            try:
                result[part] = functions[part](Path(folder, part), arguments)
            except Exception as error:  # the other parts are worth their device time all the same
                result[part] = {"holds": False, "error": f"{type(error).__name__}: {error}"}
            result[part]["seconds"] = round(time.monotonic() - started, 1)
            if arguments.out:
                arguments.out.write_text(json.dumps(result, indent=1))
        stop_all(Path(folder))
    print(json.dumps(result, indent=1))
    return 0 if all(result[part]["holds"] for part in arguments.parts.split(",")) else 1


def stop_all(folder: Path) -> None:
    """No run outlives the bench."""
    for path in folder.glob("*/**/manifest.json"):
        run = RunDirectory(path.parent)
        for process in (read_manifest(run).hub, read_manifest(run).trainer):
            if process is not None and process.alive():
                os.kill(process.pid, 9)


if __name__ == "__main__":
    sys.exit(main())
