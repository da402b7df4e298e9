"""The whole of preflight on GSM8K: with a warm analyst, cold, and how soon the headers answer (DESIGN.md, section 8).

Needs GSM8K (`--gsm8k`, a folder with train.jsonl and test.jsonl) and the demo model, or a folder of the same shape (`--model`).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from tuitune.analyst.client import Analyst
from tuitune.demo.model import NAME
from tuitune.files import cache_dir
from tuitune.preflight.preflight import preflight

RECIPE = """task: sft
model: {{name_or_path: {model}}}
peft: {{r: 16, lora_alpha: 32, target_modules: all-linear}}
dataset:
  train: [{{path: {data}/train.jsonl, columns: {{user: question, assistant: answer}}}}]
  eval: [{{path: {data}/test.jsonl, columns: {{user: question, assistant: answer}}, max_rows: 200}}]
training: {{max_length: 512, learning_rate: 2.0e-4, num_train_epochs: 1, per_device_train_batch_size: 4, eval_strategy: epoch}}
"""


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds, medians of --runs; `findings` of the last run."""
    model = arguments.model or cache_dir() / "models" / NAME
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder, "recipe.yaml")
        recipe.write_text(RECIPE.format(model=Path(model).resolve(), data=Path(arguments.gsm8k).resolve()))
        warm = with_warm_analyst(recipe, arguments.runs)
        cold = [from_the_shell(recipe) for _ in range(arguments.runs)]
    return {
        "warm_s": median(run["seconds"] for run in warm),
        "cold_s": median(run["seconds"] for run in cold),
        "headers_s": median(run["headers"] for run in cold),
        "warm": warm,
        "cold": cold,
    }


def with_warm_analyst(recipe: Path, runs: int) -> list[dict[str, Any]]:
    """Each run as the workbench makes it: an analyst that has answered before."""
    analyst = Analyst()
    try:
        analyst.request("inspect", {"recipe": str(recipe), "rows": [0]})
        found = []
        for _ in range(runs):
            started = time.monotonic()
            report = preflight(recipe, analyst)
            seconds = round(time.monotonic() - started, 2)
            told = sorted(f"{finding.id} {finding.severity}" for finding in report.findings)
            found.append({"seconds": seconds, "phases": report.seconds, "checks": len(report.ran), "findings": told})
        return found
    finally:
        analyst.close()


def from_the_shell(recipe: Path) -> dict[str, Any]:
    """`tuitune check` as a whole process; `headers`: until document and headers have answered, as the report says."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "tuitune", "check", str(recipe), "--json"], capture_output=True, text=True, check=False)
    seconds = round(time.monotonic() - started, 2)
    phases = json.loads(done.stdout)["summary"]["seconds"]
    return {"seconds": seconds, "headers": round(phases["recipe"] + phases["headers"], 3), "phases": phases}
