"""Tokens a second: plain TRL, tuitune's own choices, and Unsloth where it is installed, on the same rows. JSON out, a table last.

    python -m tests.bench.throughput --work DIR --out FILE [--cases tutorial-qlora,…] [--tools plain,tuitune,unsloth] [--unsloth-site DIR]
    python -m tests.bench.throughput --work DIR --out FILE --cases demo [--model DIR]      on the CPU: the demo's rows

Each tool trains in a process of its own, one after the other. Models have random weights of real shapes, made on the spot (but the demo's).
tokens/s: tokens of an update without padding over the seconds of a step, medians after the first steps. Unsloth counts no tokens: its steps
are over the same rows.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.multi_gpu_recipes import LORA, NF4, make_model
from tests.support.runs import ROOT, train
from tests.support.tiny_model import WORDS
from tuitune.demo.model import NAME
from tuitune.files import cache_dir, write_atomically

WARM = 3  # steps that are left out
LIMIT = 280.0  # seconds of one tool


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


JOINED = {"padding_free": "auto"}
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
        Case("packed-lora", "1.5b", 8, training=PACKED, elsewhere=EIGHT),
        Case("packed-qlora", "1.5b", 8, True, training=PACKED, elsewhere=EIGHT),
        Case("8b-lora", "8b", 8, steps=8, training=PACKED, elsewhere=EIGHT),
        Case("8b-qlora", "8b", 8, True, steps=8, training=PACKED, elsewhere=EIGHT),
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


def tuitune(case: Case, model: Path, data: Path, work: Path, cpu: bool) -> dict[str, Any]:
    """As a user would write it, trained by the trainer alone: no hub that looks at cards."""
    recipe = {
        "task": "sft",
        "model": {"name_or_path": str(model)},
        "peft": LORA,
        **({"quantization": NF4} if case.four_bit else {}),
        "dataset": {"train": [{"path": str(data), "columns": {"user": "question", "assistant": "answer"}}]},
        "launch": {"rows_per_update": case.rows, "proof": False, **({"gpus": "cpu"} if cpu else {})},
        "training": {"max_steps": case.steps, "logging_steps": 1, "save_strategy": "no", **case.training, **case.ours},
    }
    work.mkdir(parents=True, exist_ok=True)
    done = train(work, json.dumps(recipe), OMP_NUM_THREADS=str(os.cpu_count()))
    if done.returncode:
        return {"error": done.output[-1500:]}
    metrics = done.of("metrics")
    seen = [record["tokens"] for record in metrics]
    ledger = json.loads(done.run.effective.read_text())["values"]
    return {
        "seconds": [record["step_ms"] / 1000 for record in metrics],
        "losses": [record["loss"] for record in metrics],
        "tokens": [after - before for before, after in zip([0, *seen], seen)],
        "peak_allocated": max((record["mem"]["peak_alloc"] for record in metrics if record.get("mem")), default=None),
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
    each = statistics.median(found["tokens"][WARM:]) or tokens
    return {**found, "step_s": round(step, 4), "tokens_an_update": each, "tokens_per_second": round(each / step) if each else None}


def table(cases: dict[str, dict[str, Any]]) -> str:
    """A line for each tool."""
    lines = [f"{'case':15} {'tool':8} {'tokens/s':>9} {'s/update':>9} {'tokens':>7} {'GiB':>6} {'×':>6}  losses"]
    for name, tools in cases.items():
        plain = tools.get("plain", {}).get("tokens_per_second")
        for tool, one in tools.items():
            if "error" in one:
                lines.append(f"{name:15} {tool:8} {one['error'].strip().splitlines()[-1][:90]}")
                continue
            peak = f"{one['peak_allocated'] / (1 << 30):6.2f}" if one.get("peak_allocated") else "     -"
            times = f"{one['tokens_per_second'] / plain:6.2f}" if plain else "     -"
            ends = f"{one['losses'][0]:.3f} … {one['losses'][-1]:.3f}"
            words = f"{name:15} {tool:8} {one['tokens_per_second']:9,} {one['step_s']:9.3f} {one['tokens_an_update']:7.0f}"
            lines.append(f"{words} {peak} {times}  {ends}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.throughput", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="JSON file; cases that it has already stay in it")
    parser.add_argument("--cases", default="tutorial-qlora,packed-lora", help=", ".join(CASES))
    parser.add_argument("--tools", default="plain,tuitune")
    parser.add_argument("--unsloth-site", type=Path, help="where Unsloth and its own versions are installed")
    parser.add_argument("--model", type=Path, help="of the demo")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"schema": 1, "bench": "throughput", "cases": {}}
    if args.out.exists():
        document = json.loads(args.out.read_text())
    for name in args.cases.split(","):
        case, cpu = CASES[name], name == "demo"
        model = (args.model or cache_dir() / "models" / NAME).resolve() if cpu else make_model(case.shape, args.work / "models", cpu=False)
        data = ROOT / "tuitune" / "demo" / "data" / "train.jsonl" if cpu else write_rows(args.work / "rows.jsonl")
        found: dict[str, Any] = document["cases"].setdefault(name, {})
        for tool in args.tools.split(","):
            if tool == "tuitune":
                found[tool] = summed_up(tuitune(case, model, data, args.work / name, cpu))
            else:
                each = found.get("plain", {}).get("tokens_an_update")
                found[tool] = summed_up(elsewhere(case, model, data, args.unsloth_site if tool == "unsloth" else None), each)
            write_atomically(args.out, json.dumps(document, indent=1))
    print(table(document["cases"]))
    return 1 if any("error" in one for tools in document["cases"].values() for one in tools.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
