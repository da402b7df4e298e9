"""The demo without a terminal: train, then show what the training changed."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from tuitune.bus.envelope import as_number
from tuitune.console import RunLines, goes_on
from tuitune.errors import UserError
from tuitune.hub.follow import follow
from tuitune.hub.launch import launch_recipe
from tuitune.preflight.gate import pass_gate
from tuitune.recipe.recipe import load_recipe
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest
from tuitune.text import printable

QUESTIONS = ("What is the capital of France?", "Why do we need to drink water?", "What do cows eat?")


def run_headless(recipe_path: Path) -> int:
    """Train the demo recipe and print loss, answers before and after, and where the adapter lies; 0 when it trained, else 1.

    UserError when preflight finds errors.
    """
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    workspace = recipe_path.parent
    leave = pass_gate(recipe_path, workspace, force=False, as_json=False, say=lambda text: console.print(text, markup=False, style="dim"))
    run = launch_recipe(recipe_path, workspace, checked=leave.checked)
    story = Story()
    try:
        for record in follow(run):
            for line in story.read(record):
                console.print(line, markup=False)
    except KeyboardInterrupt:
        console.print(goes_on(run), markup=False)
        return 0
    if story.state != "done":
        sys.stderr.write(f"tuitune: {run.name} {story.state}: {printable(read_manifest(run).why or 'it said nothing')}\n")
        return 1
    console.print(f"\nloss {story.losses[0]:.3f} → {story.losses[-1]:.3f} on the training rows", markup=False)
    if len(story.eval_losses) > 1:
        first, last = story.eval_losses[0], story.eval_losses[-1]
        console.print(f"loss {first:.3f} → {last:.3f} on {story.eval_rows} rows it has not seen\n", markup=False)
    recipe = load_recipe(run.recipe, base=workspace)
    for answer in _answers(recipe.model["name_or_path"], run):
        console.print(f"  {answer['question']}", markup=False, style="bold")
        console.print(f"    before  {printable(answer['before'])}", markup=False)
        console.print(f"    after   {printable(answer['after'])}\n", markup=False)
    console.print(f"The adapter: {run.adapter}", markup=False)
    console.print(f"{time.monotonic() - started:.0f} s in all. Look at the run in the workbench: tuitune {workspace}", markup=False)
    return 0


class Story:
    """What the journal says that the closing lines need."""

    def __init__(self) -> None:
        self.lines = RunLines()
        self.losses: list[float] = []
        self.eval_losses: list[float] = []
        self.eval_rows = 0
        self.state = ""

    def read(self, record: dict[str, Any]) -> list[str]:
        """Take a record; returns the lines to print for it, every tenth step's among them."""
        event = record.get("ev")
        if event == "metrics" and (loss := as_number(record.get("loss"))) is not None:
            self.losses.append(loss)
        if event == "eval" and (loss := as_number((record.get("metrics") or {}).get("eval_loss"))) is not None:
            self.eval_losses.append(loss)
        if event == "data":
            self.eval_rows = record.get("eval_rows") or 0
        if event == "state":
            self.state = str(record.get("s"))
        lines = self.lines.read(record)
        return lines if event != "metrics" or len(self.losses) % 10 in (0, 1) else []


def _answers(model: str, run: RunDirectory) -> list[dict[str, str]]:
    command = [sys.executable, "-m", "tuitune.demo.answers", model, str(run.adapter), *QUESTIONS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"the adapter was trained ({run.adapter}), but asking the model failed: {printable(reason)}")
    answers: list[dict[str, str]] = json.loads(done.stdout)
    return answers
