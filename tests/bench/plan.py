"""`tuitune plan`: milliseconds of a cold process, and of one plan in a warm one (what a slider waits for).

Figures: 300 ms cold without torch, 10 ms a slider (DESIGN.md, section 8).
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

from tests.support.model_shapes import CONFIGS
from tuitune.memory.advice import advise
from tuitune.memory.plan import plan
from tuitune.memory.settings import Device
from tuitune.planning import read_recipe
from tuitune.preflight.cards import parse_card

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "qlora-sft-7b-24gb.yaml"
CARD = "RTX 4090"


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians over `--runs` processes and 100 plans."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(CONFIGS["llama3.1-8b"]))
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(RECIPE.read_text().replace("Qwen/Qwen2.5-7B-Instruct", folder))
        command = [sys.executable, "-m", "tuitune", "plan", str(recipe), "--gpu", CARD, "--json"]
        _milliseconds(lambda: subprocess.run(command, cwd=ROOT, capture_output=True, check=True))  # exports the schema, writes bytecode
        cold = [_milliseconds(lambda: subprocess.run(command, cwd=ROOT, capture_output=True, check=True)) for _ in range(arguments.runs)]
        planned = read_recipe(recipe, parse_card(CARD))
    memory = 8 << 30
    warm = [_milliseconds(lambda: plan(planned.shape, planned.settings, Device())) for _ in range(100)]
    advised = [_milliseconds(lambda: advise(planned.shape, planned.settings, Device(), memory)) for _ in range(10)]
    return {"cold_process_ms": median(cold), "plan_ms": median(warm), "advice_ms": median(advised)}


def _milliseconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return round((time.perf_counter() - began) * 1000, 2)
