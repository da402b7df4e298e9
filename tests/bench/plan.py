"""`tuitune plan`: milliseconds of a cold process, of one plan in a warm one, and of what a key on a slider of the plan view recomputes.

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

from ruamel.yaml import YAML

from tests.support.model_shapes import CONFIGS
from tuitune.memory.advice import advise
from tuitune.memory.plan import plan
from tuitune.memory.settings import Device
from tuitune.planning import read_recipe
from tuitune.preflight.cards import parse_card
from tuitune.workbench.views.plan.reading import read
from tuitune.workbench.views.plan.sliders import SLIDERS
from tuitune.workbench.views.plan.state import PlanState, move, outcome, values_of

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
        sliders = [*_sliders(recipe), *_sliders(_full(recipe))]
    memory = 8 << 30
    warm = [_milliseconds(lambda: plan(planned.shape, planned.settings, Device())) for _ in range(100)]
    advised = [_milliseconds(lambda: advise(planned.shape, planned.settings, Device(), memory)) for _ in range(10)]
    sliders.sort()
    return {
        "cold_process_ms": median(cold),
        "plan_ms": median(warm),
        "advice_ms": median(advised),
        "slider_ms": {"median": median(sliders), "p95": sliders[int(0.95 * len(sliders))], "max": sliders[-1], "keys": len(sliders)},
    }


def _full(recipe: Path) -> Path:
    """The recipe as full fine-tuning, whose advice is the longest."""
    sections = YAML(typ="safe").load(recipe.read_text())
    path = recipe.with_name("full.yaml")
    with path.open("w") as file:
        YAML().dump({key: value for key, value in sections.items() if key not in ("peft", "quantization")}, file)
    return path


def _sliders(recipe: Path) -> list[float]:
    """Plan, advice and cards after every step of every slider, on this card and on a small one."""
    took = []
    for card in (CARD, "T4"):
        state = PlanState(read(recipe, parse_card(card)))
        for slider in SLIDERS:
            for value in values_of(state, slider):
                moved = move(state, slider.name, value)
                took.append(_milliseconds(lambda moved=moved: outcome(moved)))
    return took


def _milliseconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return round((time.perf_counter() - began) * 1000, 2)
