"""Measured GPU memory of recipes beside what `tuitune plan` says of them, on a CUDA box; JSON lines out.

    python -m tests.bench.vram measure --tokenizer DIR --work DIR --out FILE    the CONFIGURATIONS below
    python -m tests.bench.vram fit --seed 1 --count 20 …    drawn recipes in a memory that they just fit, or just do not
    python -m tests.bench.vram advice …    a recipe that runs out of memory, and what the advisor makes of it

A run is what `tuitune train` does: the recipe through tuitune.trainer.build, random weights of a real shape read from safetensors, STEPS
steps, in a process of its own. Figures in MiB: torch's peaks over the steps, and the process's memory by NVML.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from ruamel.yaml import YAML

from tests.support.model_shapes import CONFIGS
from tests.support.random_weights import save_random_weights
from tuitune.memory.advice import advise
from tuitune.memory.allocator import choose
from tuitune.memory.plan import plan
from tuitune.memory.settings import MIB, Device
from tuitune.planning import read_recipe
from tuitune.preflight.cards import parse_card

STEPS = 4
ROWS = 400
FOUR_BITS = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": "bfloat16"}


def configuration(
    id: str, shape: str, length: int, batch: int, method: str = "lora", task: str = "sft", every: int = 1, **more: Any
) -> dict[str, Any]:
    """A recipe's sections. method: full, lora or qlora; every: activation checkpoints every n-th layer, 0 none. `more`: keys of `training`,
    and "peft", "model", "launch" as sections, "eval": an evaluation batch."""
    sections = {name: more.pop(name, {}) for name in ("peft", "model", "launch")}
    evaluation = more.pop("eval", 0)
    training = {
        "max_length": length,
        "per_device_train_batch_size": batch,
        "activation_checkpointing": every > 0,
        **({"activation_checkpointing_kwargs": {"every_n_layers": every}} if every > 1 else {}),
        **({"eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": evaluation} if evaluation else {}),
        **more,
    }
    recipe: dict[str, Any] = {"task": task, "model": sections["model"], "training": training}
    if method != "full":
        recipe["peft"] = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"} | sections["peft"]
    if method == "qlora":
        recipe["quantization"] = FOUR_BITS
    if sections["launch"]:
        recipe["launch"] = sections["launch"]
    return {"id": id, "model": shape, "eval": evaluation, "recipe": recipe}


CONFIGURATIONS = [
    configuration("o01", "gemma2-2b", 1024, 4),
    configuration("o02", "gemma3-1b", 512, 8, "full", optim="adamw_8bit", eval=16),
    configuration("o03", "phi3-mini", 1024, 4, "qlora"),
    configuration("o04", "pythia-1.4b", 512, 8, "full", every=0),
    configuration("o05", "gpt2-large", 1024, 8, every=0, peft={"r": 32}),
    configuration("o06", "mistral-7b", 1024, 2, "qlora", "dpo", gradient_accumulation_steps=2),
    configuration("o07", "qwen3-4b", 2048, 2, packing=True),
    configuration("o08", "qwen2.5-1.5b", 2048, 2, every=2, eval=8),
    configuration("o09", "qwen3-moe-small", 1024, 4),
    configuration("o10", "mixtral-small", 1024, 2, every=0, peft={"target_modules": ["q_proj", "v_proj"]}),
    configuration("o11", "llama3.2-1b", 512, 4, "full", model={"dtype": "float32"}, gradient_accumulation_steps=2),
    configuration("o12", "llama3.2-1b", 2048, 2, "full", every=2, optim="paged_adamw_8bit"),
    configuration("o13", "mistral-7b", 2048, 2, "qlora", every=0, peft={"lora_dropout": 0.05, "r": 64}),
    configuration("o14", "smollm2-135m", 512, 8, "full", "dpo"),
    configuration("o15", "qwen2.5-0.5b", 1024, 8, every=0, label_smoothing_factor=0.1),
    configuration("o16", "phi-2", 1024, 4, launch={"adapter_dtype": "bfloat16"}),
    configuration("o17", "qwen2.5-0.5b", 1024, 4, every=0, model={"attn_implementation": "eager"}),
    configuration("o19", "llama3.2-1b", 1024, 4, label_smoothing_factor=0.1),
    configuration("o20", "llama3.2-1b", 2048, 2, "full", every=0, optim="adamw_8bit"),
    configuration("o18", "qwen3-moe-small", 512, 4, "qlora", "dpo"),
]


def make_model(name: str, tokenizer: Path, folder: Path) -> Path:
    """A model of the shape CONFIGS[name] with random weights beside a real tokenizer; made once."""
    target = folder / name
    if not (target / "config.json").exists():
        shutil.copytree(
            tokenizer, target, ignore=shutil.ignore_patterns("*.safetensors", "config.json", "generation_config.json"), dirs_exist_ok=True
        )
        save_random_weights(CONFIGS[name], target)
    return target


def write_recipe(configuration: dict[str, Any], model: Path, folder: Path, rows: int = ROWS) -> Path:
    """The recipe and its rows: every other one is cut at max_length, the rest have two thirds of it."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = json.loads(json.dumps(configuration["recipe"]))
    length, task = recipe["training"]["max_length"], recipe["task"]
    packed = bool(recipe["training"].get("packing"))

    def text(row: int) -> str:
        return " ".join(["the cat sat"] * ((length // 10 if packed else length) if row % 2 else 2 * length // 9))

    def made(row: int) -> dict[str, str]:
        return {"prompt": "go on: ", "chosen": text(row), "rejected": text(row + 1)} if task == "dpo" else {"text": text(row)}

    (folder / "rows.jsonl").write_text("".join(json.dumps(made(row)) + "\n" for row in range(rows)))
    recipe["model"] = {"name_or_path": str(model)} | recipe["model"]
    recipe["dataset"] = {"train": [{"path": "rows.jsonl"}]}
    if configuration["eval"]:
        recipe["dataset"]["eval"] = [{"path": "rows.jsonl", "max_rows": 4 * configuration["eval"]}]
    recipe["training"] = {
        "max_steps": STEPS, "logging_steps": 1, "save_strategy": "no", "report_to": "none", "learning_rate": 1e-4, **recipe["training"],
    }  # fmt: skip
    path = folder / "recipe.yaml"
    with path.open("w") as file:
        YAML().dump(recipe, file)
    return path


def planned(path: Path) -> dict[str, Any]:
    """What the plan says of a recipe on this card, in MiB."""
    found = read_recipe(path, parse_card("H200"))
    made = plan(found.shape, found.settings, Device())
    return {
        "allocated": made.allocated / MIB,
        "nvml": made.nvml / MIB,
        "needed": made.needed / MIB,
        "peak": made.peak,
        "components": {one.name: one.bytes / MIB for one in made.of_phase(made.peak)},
    }


def one(path: Path, limit_mib: float, proof: bool) -> dict[str, Any]:
    """Train the recipe in this process; `limit_mib`: of memory for this process, its CUDA context included (0: all there is). `proof`: its
    longest batch first, as `tuitune train` does (tuitune.trainer.proof)."""
    allocator = choose(os.environ)
    import torch
    from transformers import TrainerCallback

    from tests.support.runs import NoCommands
    from tuitune.bus.journal import Journal
    from tuitune.recipe.recipe import load_recipe
    from tuitune.runs.directory import RunDirectory
    from tuitune.trainer.build import build
    from tuitune.trainer.proof import ProofCallback
    from tuitune.trainer.stop import StopRequest
    from tuitune.trainer.telemetry import Telemetry

    torch.cuda.init()
    context = used_mib()
    if limit_mib:
        total = torch.cuda.get_device_properties(0).total_memory / MIB
        torch.cuda.set_per_process_memory_fraction((limit_mib - Device().context / MIB) / total)
    steps: list[dict[str, float]] = []
    losses: list[float] = []
    peak = Peak()

    class Watch(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            torch.cuda.reset_peak_memory_stats()
            self.began = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            steps.append(
                {
                    "alloc": torch.cuda.max_memory_allocated() / MIB,
                    "reserved": torch.cuda.max_memory_reserved() / MIB,
                    "end_alloc": torch.cuda.memory_allocated() / MIB,
                    "s": round(time.monotonic() - self.began, 3),
                }
            )

        def on_evaluate(self, *_: Any, **__: Any) -> None:
            steps[-1]["eval_alloc"] = torch.cuda.max_memory_allocated() / MIB

        def on_log(self, _args: Any, _state: Any, _control: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                losses.append(logs["loss"])

    answer: dict[str, Any] = {"oom": False, "allocator": allocator}
    try:
        run = RunDirectory(path.parent / "run")
        built = build(load_recipe(path), run)
        answer["ready_mib"] = torch.cuda.memory_allocated() / MIB
        trainer = built.trainer
        answer["trainable"] = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
        if proof:
            run.journal.mkdir(parents=True, exist_ok=True)
            telemetry = Telemetry(Journal(run.journal / "trainer-1.jsonl"), NoCommands())
            trainer.add_callback(ProofCallback(built, telemetry, StopRequest(), path.parent.name))
        trainer.add_callback(Watch())
        torch.cuda.reset_peak_memory_stats()
        trainer.train()
    except torch.OutOfMemoryError as error:
        answer |= {"oom": True, "why": str(error).partition(". GPU")[0][:200]}
    nvml = peak.end()
    return answer | {
        "steps": steps,
        "losses": losses,
        "ctx_mib": context,
        "peak_alloc": max((max(step["alloc"], step.get("eval_alloc", 0)) for step in steps), default=None),
        "peak_reserved": max((step["reserved"] for step in steps), default=None),
        "peak_nvml": nvml,
        "versions": {name: __import__(name).__version__ for name in ("torch", "transformers", "peft", "trl", "bitsandbytes")},
    }


def used_mib() -> float:
    """This process's memory on the card, as NVML says."""
    import pynvml

    pynvml.nvmlInit()
    running = pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(0))
    return sum(process.usedGpuMemory for process in running if process.pid == os.getpid()) / MIB


class Peak:
    """The highest `used_mib` until it is asked, looked at fifty times a second."""

    def __init__(self) -> None:
        self._over, self._highest = threading.Event(), 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self._highest = max(self._highest, used_mib())

    def end(self) -> float:
        """Stop looking."""
        self._over.set()
        self._thread.join()
        return max(self._highest, used_mib())


def in_process(path: Path, limit_mib: float = 0.0, proof: bool = False) -> dict[str, Any]:
    """`one` in a process of its own; {"failed": its last words} when it broke."""
    command = [
        sys.executable,
        "-m",
        "tests.bench.vram",
        "one",
        "--recipe",
        str(path),
        "--limit",
        str(limit_mib),
        *(["--proof"] if proof else []),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    except (IndexError, ValueError):
        return {"failed": done.stderr.strip()[-1500:]}


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Plan and measurement of every configuration."""
    wanted = [one for one in CONFIGURATIONS if not arguments.only or one["id"] in arguments.only]

    def run(configuration: dict[str, Any]) -> dict[str, Any]:
        path = write_recipe(configuration, arguments.work / configuration["model"], arguments.work / "runs" / configuration["id"])
        found = in_process(path, proof=arguments.proof)
        row = {**configuration, "plan": planned(path), **found}
        if found.get("peak_alloc"):
            row["off"] = {
                "alloc": round(100 * (row["plan"]["allocated"] / found["peak_alloc"] - 1), 2),
                "nvml": round(100 * (row["plan"]["nvml"] / found["peak_nvml"] - 1), 2),
            }
        return row

    return in_parallel(run, wanted, arguments)


FIT_MODELS = ("smollm2-135m", "qwen2.5-0.5b", "llama3.2-1b", "gemma3-1b", "qwen2.5-1.5b", "pythia-1.4b")


def drawn(random: Random, number: int) -> dict[str, Any]:
    """A recipe drawn at random."""
    method, task = random.choice(["full", "lora", "qlora"]), random.choice(["sft", "sft", "sft", "dpo"])
    more: dict[str, Any] = {"gradient_accumulation_steps": random.choice([1, 2])}
    if method == "full":
        more["optim"] = random.choice(["adamw_torch_fused", "adamw_8bit", "adamw_torch"])
    else:
        more["peft"] = {
            "r": random.choice([8, 32, 64]),
            "target_modules": random.choice(["all-linear", "all-linear", ["q_proj", "v_proj"]]),
        }
    if task == "sft" and random.random() < 0.3:
        more["packing"] = True
    length, batch = random.choice([256, 512, 1024, 2048]), random.choice([1, 2, 4, 8])
    model = random.choice(FIT_MODELS)
    if "peft" in more and model == "pythia-1.4b":
        more["peft"]["target_modules"] = "all-linear"
    every = random.choice([0, 1, 1, 2])
    if task == "dpo":
        every = min(every, 1)  # DPOTrainer cannot do with every_n_layers (tests/contract/test_trainer_internals.py)
    return configuration(f"f{number:02d}", model, length, batch, method, task, every, **more)


def fit(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """`count` recipes in a memory of which the plan takes 0.90 to 0.98, and as many where it takes 1.05 to 1.15."""
    random = Random(arguments.seed)
    drawings = [
        {**drawn(random, 2 * at + over), "share": round(random.uniform(1.05, 1.15) if over else random.uniform(0.90, 0.98), 4)}
        for at in range(arguments.count)
        for over in (0, 1)
    ]

    def run(drawing: dict[str, Any]) -> dict[str, Any]:
        path = write_recipe(drawing, arguments.work / drawing["model"], arguments.work / "fits" / drawing["id"])
        made = planned(path)
        limit = made["needed"] / drawing["share"]
        found = in_process(path, limit)
        fits = None if "failed" in found else not found["oom"]
        return {**drawing, "plan": made, "limit_mib": limit, **found, "fits": fits, "as_planned": fits == (drawing["share"] < 1)}

    return in_parallel(run, [one for one in drawings if not arguments.only or one["id"] in arguments.only], arguments)


def advised(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A recipe in half of the memory that it needs; the same with the advisor's changes; and without a limit, for its losses."""
    random_recipe = configuration("a01", "qwen2.5-1.5b", 512, 16, every=0, max_steps=20, logging_steps=1, learning_rate=2e-4)
    model = arguments.work / random_recipe["model"]
    path = write_recipe(random_recipe, model, arguments.work / "advice" / "before")
    found = read_recipe(path, parse_card("H200"))
    limit = planned(path)["needed"] / 2
    changed = json.loads(json.dumps(random_recipe))
    told = []
    for advice in advise(found.shape, found.settings, Device(), int(limit * MIB)):
        told.append({"values": advice.change.values, "costs": advice.change.costs, "needed": advice.plan.needed / MIB})
        for key, value in advice.change.values.items():
            section, _, name = key.partition(".")
            changed["recipe"].setdefault(section, {})[name] = value
    after = write_recipe(changed, model, arguments.work / "advice" / "after")
    runs = {"as written": in_process(path, limit), "advised": in_process(after, limit), "without a limit": in_process(path)}
    pairs = list(zip(runs["advised"].get("losses", []), runs["without a limit"].get("losses", [])))
    return [
        {
            "limit_mib": limit,
            "advice": told,
            "oom": {name: run.get("oom", run) for name, run in runs.items()},
            "peak_nvml": {name: run.get("peak_nvml") for name, run in runs.items()},
            "losses": pairs,
            "largest_difference": max((abs(a - b) for a, b in pairs), default=math.nan),
        }
    ]


def in_parallel(
    run: Callable[[dict[str, Any]], dict[str, Any]], wanted: Sequence[dict[str, Any]], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """`run` of each, some at a time: a process's own memory does not depend on others while the card is large enough."""
    with ThreadPoolExecutor(arguments.at_once) as pool:
        for name in sorted({one["model"] for one in wanted}):
            make_model(name, arguments.tokenizer, arguments.work)
        return list(pool.map(run, wanted))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("measure", "fit", "advice", "one"))
    for name in ("tokenizer", "work", "out", "recipe"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--limit", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=3)
    parser.add_argument("--proof", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    arguments = parser.parse_args()
    if arguments.what == "one":
        print(json.dumps(one(arguments.recipe, arguments.limit, arguments.proof)))
        return
    if arguments.what == "advice":
        make_model("qwen2.5-1.5b", arguments.tokenizer, arguments.work)
    rows = {"measure": measure, "fit": fit, "advice": advised}[arguments.what](arguments)
    arguments.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        shown = (
            "id",
            "model",
            "share",
            "fits",
            "as_planned",
            "off",
            "peak_alloc",
            "peak_nvml",
            "failed",
            "oom",
            "largest_difference",
            "advice",
        )
        print({key: row[key] for key in shown if key in row})


if __name__ == "__main__":
    main()
