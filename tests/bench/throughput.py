"""Tokens a second: plain TRL, tuitune's own choices, and Unsloth where it is installed, on the same rows. JSON out, a table last.

    python -m tests.bench.throughput --work DIR --out FILE [--cases tutorial-qlora,…] [--tools plain,tuitune,unsloth] [--unsloth-site DIR]
    python -m tests.bench.throughput --work DIR --out FILE --cases demo [--model DIR]      on the CPU: the demo's rows
    python -m tests.bench.throughput … --tools plain,tuitune,tuitune-liger,tuitune+liger+compile,tuitune-ckpt [--profile]

`tuitune` chooses by itself; +lever and -lever pin one: liger (its kernels), compile (decoder layers, each by itself), ckpt (activations are
computed again), +measured (launch.measure_split), +bf16 (launch.adapter_dtype), +product (tests.bench.lora_addition), -first (peft's order:
the base before the adapter). `tuitune@6` is told that the card has 6 GiB, and chooses for that. --profile: the last steps of tuitune's runs
by kernel; they are left out of the figures.

Each tool trains in a process of its own, one after the other. Models have random weights of real shapes, made on the spot (but the demo's).
tokens/s: tokens of an update without padding over the seconds of a step, medians after the first steps. Unsloth counts no tokens: its steps
are over the same rows.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import kernel_times
from tests.bench.multi_gpu_recipes import LORA, NF4, make_model
from tests.support.runs import ROOT, train
from tests.support.tiny_model import WORDS
from tuitune.demo.model import NAME
from tuitune.files import cache_dir, write_atomically

WARM = 3  # steps that are left out
LIMIT = 280.0  # seconds of one tool
BACKEND = "inductor"  # of +compile
RUNNER = "tests.bench.profiled_trainer"
PROFILED = 2  # its last steps, which are slower for being watched
# lever → key of `training:` and its values for + and -
LEVERS = {
    "liger": ("use_liger_kernel", True, False),
    "compile": ("torch_compile", "auto", False),  # with -liger
    "ckpt": ("gradient_checkpointing", True, False),
}
# The same of `launch:`, and of the bench's own runner.
LAUNCH: dict[str, dict[str, Any]] = {"+measured": {"measure_split": True}, "+bf16": {"adapter_dtype": "bfloat16"}}
RUNNERS = {"+product": "product", "-first": "base_first"}


@dataclass(frozen=True)
class Case:
    """`rows` an update; `training` is every tool's; `elsewhere`: how plain TRL and Unsloth take an update apart; `ours`: of `training:`."""

    name: str
    shape: str
    rows: int
    four_bit: bool = False
    steps: int = 12
    training: dict[str, Any] = field(default_factory=dict)
    elsewhere: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)


AUTO = {"use_liger_kernel": "auto"}
JOINED = {"padding_free": "auto", **AUTO}
FOUR_TIMES_FOUR = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
EIGHT = {"per_device_train_batch_size": 8}
PACKED = {"max_length": 2048, "packing": True, "packing_strategy": "bfd_split"}
CASES = {
    case.name: case
    for case in (
        Case(
            "demo",
            "demo",
            4,
            steps=12,
            training={"max_length": 256, "learning_rate": 1e-3},
            elsewhere={"per_device_train_batch_size": 4},
            ours=JOINED,
        ),
        Case("tutorial-qlora", "1.5b", 16, True, training={"max_length": 512}, elsewhere=FOUR_TIMES_FOUR, ours=JOINED),
        Case("tutorial-lora", "1.5b", 16, training={"max_length": 512}, elsewhere=FOUR_TIMES_FOUR, ours=JOINED),
        Case("packed-lora", "1.5b", 8, training=PACKED, elsewhere=EIGHT, ours=AUTO),
        Case("packed-lora-16", "1.5b", 16, training=PACKED, elsewhere=EIGHT | {"gradient_accumulation_steps": 2}, ours=AUTO),
        Case("packed-qlora", "1.5b", 8, True, training=PACKED, elsewhere=EIGHT, ours=AUTO),
        Case("8b-lora", "8b", 8, steps=8, training=PACKED, elsewhere=EIGHT, ours=AUTO),
        Case("8b-qlora", "8b", 8, True, steps=8, training=PACKED, elsewhere=EIGHT, ours=AUTO),
    )
}


def write_rows(path: Path, count: int = 3000) -> Path:
    """Chats of about 210 tokens (between 60 and 360), the same for every call."""
    import random

    dice = random.Random(7)
    texts = [" ".join(dice.choices(WORDS, k=dice.randint(25, 175))) for _ in range(2 * count)]
    rows = [{"question": question, "answer": answer} for question, answer in zip(texts[::2], texts[1::2])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pinned(tool: str) -> dict[str, Any]:
    """What the levers in a tool's name pin of `training:`. ValueError for a name that is none."""
    if not re.fullmatch(r"tuitune([+-][a-z0-9]+)*(@[0-9.]+)?", tool):
        raise ValueError(f"{tool}: tuitune, with +lever or -lever ({', '.join(LEVERS)}) behind it, and @GiB for a smaller card")
    found = {}
    for sign, lever in re.findall(r"([+-])([a-z]+)", re.sub("|".join(map(re.escape, (*LAUNCH, *RUNNERS))), "", tool)):
        if lever not in LEVERS:
            raise ValueError(f"{tool}: no lever {lever}; there are {', '.join(LEVERS)}")
        key, on, off = LEVERS[lever]
        found[key] = on if sign == "+" else off
    return found


def tuitune(tool: str, case: Case, model: Path, data: Path, work: Path, cpu: bool, profile: bool = False) -> dict[str, Any]:
    """As a user would write it, but for what the tool's name pins; trained by the trainer alone: no hub that looks at cards."""
    recipe = {
        "task": "sft",
        "model": {"name_or_path": str(model), "attn_implementation": "auto"},
        "peft": LORA,
        **({"quantization": NF4} if case.four_bit else {}),
        "dataset": {"train": [{"path": str(data), "columns": {"user": "question", "assistant": "answer"}}]},
        "launch": {
            "rows_per_update": case.rows,
            "proof": False,
            **{key: value for lever, keys in LAUNCH.items() if lever in tool for key, value in keys.items()},
            **({"gpus": "cpu"} if cpu else {}),
        },
        "training": {"max_steps": case.steps, "logging_steps": 1, "save_strategy": "no", **case.training, **case.ours, **pinned(tool)},
    }
    work.mkdir(parents=True, exist_ok=True)
    kernels = work / "profile.json" if profile else None
    wanted = json.dumps(
        {
            "profile": str(kernels) if kernels else None,
            "compile": BACKEND if "+compile" in tool else None,
            **{name: lever in tool for lever, name in RUNNERS.items()},
            "card_gib": float(tool.partition("@")[2]) if "@" in tool else None,
        }
    )
    try:
        done = train(work, json.dumps(recipe), RUNNER, LIMIT, OMP_NUM_THREADS=str(os.cpu_count()), TUITUNE_BENCH=wanted)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {LIMIT:.0f} s"}
    if done.returncode:
        return {"error": done.output[-1500:]}
    metrics = done.of("metrics")[: -PROFILED if profile else None]
    seen = [record["tokens"] for record in metrics]
    ledger = json.loads(done.run.effective.read_text())["values"]
    return {
        "seconds": [record["step_ms"] / 1000 for record in metrics],
        "losses": [record["loss"] for record in metrics],
        "tokens": [after - before for before, after in zip([0, *seen], seen)],
        "peak_allocated": max((record["mem"]["peak_alloc"] for record in metrics if record.get("mem")), default=None),
        "profile": json.loads(kernels.read_text()) if kernels else None,
        "split": done.of("split")[-1:],
        "parts": [record.get("parts") for record in metrics],
        "chosen": {f"{entry['section']}.{entry['key']}": entry["value"] for entry in ledger if entry["source"] == "adjusted"},
    }


def elsewhere(case: Case, model: Path, data: Path, unsloth_site: Path | None = None) -> dict[str, Any]:
    """Plain TRL, or Unsloth from its site directory."""
    wish = {"model": str(model), "data": str(data), "steps": case.steps, "four_bit": case.four_bit}
    wish["training"] = {**case.training, **case.elsewhere}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    if unsloth_site:
        environment["PYTHONPATH"] = str(unsloth_site)
    command = [
        sys.executable,
        str(Path(__file__).with_name("sft_elsewhere.py")),
        json.dumps(wish),
        *(["--unsloth"] if unsloth_site else []),
    ]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {LIMIT:.0f} s"}
    if done.returncode:
        return {"error": done.stderr[-1500:]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def summed_up(found: dict[str, Any], tokens: float | None = None) -> dict[str, Any]:
    """With tokens/s. tokens: of an update, for a tool that does not count them."""
    if "error" in found:
        return found
    step = statistics.median(found["seconds"][WARM:])
    beside = sum(found["seconds"][:WARM]) - WARM * step  # what the first steps took longer: memory, kernels, compiling
    each = statistics.median(found["tokens"][WARM:]) or tokens
    return {
        **found,
        "step_s": round(step, 4),
        "beginning_s": round(beside, 2),
        "tokens_an_update": each,
        "tokens_per_second": round(each / step) if each else None,
    }


def table(cases: dict[str, dict[str, Any]]) -> str:
    """A line for each tool."""
    lines = [f"{'case':15} {'tool':22} {'tokens/s':>9} {'s/update':>9} {'tokens':>7} {'GiB':>6} {'×':>6} {'begin s':>8}  losses"]
    for name, tools in cases.items():
        plain = tools.get("plain", {}).get("tokens_per_second")
        for tool, one in tools.items():
            if "error" in one:
                lines.append(f"{name:15} {tool:22} {one['error'].strip().splitlines()[-1][:90]}")
                continue
            peak = f"{one['peak_allocated'] / (1 << 30):6.2f}" if one.get("peak_allocated") else "     -"
            times = f"{(one['tokens_per_second'] or 0) / plain:6.2f}" if plain else "     -"
            ends = f"{one['losses'][0]:.3f} … {one['losses'][-1]:.3f}"
            rate, each = one["tokens_per_second"] or 0, one["tokens_an_update"] or 0  # Unsloth's, where no other tool counted them
            words = f"{name:15} {tool:22} {rate:9,} {one['step_s']:9.3f} {each:7.0f}"
            lines.append(f"{words} {peak} {times} {one['beginning_s']:8.1f}  {ends}")
        lines += [f"{name:15} {line}" for line in break_even(tools)]
    return "\n".join(lines)


def break_even(tools: dict[str, dict[str, Any]]) -> list[str]:
    """From how many steps compiling pays, beside the same tool without it: what it begins with over what a step saves."""
    lines = []
    for tool, one in tools.items():
        other = tools.get(tool.replace("+compile", ""), {})
        if "+compile" not in tool or "error" in one or not other or "error" in other:
            continue
        costs, saves = one["beginning_s"] - other["beginning_s"], other["step_s"] - one["step_s"]
        pays = f"pays from {max(costs, 0) / saves:,.0f} steps" if saves > 0 else "never pays"
        lines.append(f"{tool} {pays}: {costs:.1f} s to begin, {saves:.4f} s a step saved")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.throughput", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", type=Path, help="folder for the models alone")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; cases that it has already stay in it")
    parser.add_argument("--cases", default="tutorial-qlora,packed-lora", help=", ".join(CASES))
    parser.add_argument("--tools", default="plain,tuitune", help=f"plain, unsloth, tuitune with +lever or -lever: {', '.join(LEVERS)}")
    parser.add_argument("--profile", action="store_true", help="tuitune's last steps by kernel")
    parser.add_argument("--unsloth-site", type=Path, help="where Unsloth and its own versions are installed")
    parser.add_argument("--model", type=Path, help="of the demo")
    args = parser.parse_args()
    for tool in args.tools.split(","):
        if tool not in ("plain", "unsloth"):
            pinned(tool)  # a name that is none is told before the first case, not after it
    args.work.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"schema": 1, "bench": "throughput", "cases": {}}
    if args.out.exists():
        document = json.loads(args.out.read_text())
    for name in args.cases.split(","):
        case, cpu = CASES[name], name == "demo"
        model = (
            (args.model or cache_dir() / "models" / NAME).resolve()
            if cpu
            else make_model(case.shape, args.models or args.work / "models", cpu=False)
        )
        data = ROOT / "tuitune" / "demo" / "data" / "train.jsonl" if cpu else write_rows(args.work / "rows.jsonl")
        found: dict[str, Any] = document["cases"].setdefault(name, {})
        for tool in args.tools.split(","):
            if tool.startswith("tuitune"):
                found[tool] = summed_up(tuitune(tool, case, model, data, args.work / name / tool, cpu, args.profile))
            else:
                each = next(
                    (found[other]["tokens_an_update"] for other in ("plain", "tuitune") if found.get(other, {}).get("tokens_an_update")),
                    None,
                )
                found[tool] = summed_up(elsewhere(case, model, data, args.unsloth_site if tool == "unsloth" else None), each)
            write_atomically(args.out, json.dumps(document, indent=1))
    print(table(document["cases"]))
    for name, tools in document["cases"].items():
        for tool, one in tools.items():
            if one.get("profile"):
                print(f"\n{name} {tool}: {kernel_times.table(one['profile'])}")
    return 1 if any("error" in one for tools in document["cases"].values() for one in tools.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
