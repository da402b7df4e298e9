"""`python -m tests.support.screenshots DIR [--run RUN_DIR]`: SVG pictures of every view of the real workbench at three sizes.

The workbench is the real one, driven by keys and commands as a user would; only its folder is made for the picture. With --run the
dashboard shows that recorded run (copied, so that the run itself is not touched); without one there is no picture of a dashboard:
pictures do not show made-up figures.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from textual.pilot import Pilot

from tuitune.workbench.app import Workbench

SIZES = ((80, 24), (120, 40), (200, 50))
DEADLINE = 30.0  # seconds a view may take until it shows what it is waited for
PLANTED = """\
# the errors are planted: the picture shows how they are reported
name: gsm8k
task: sft
model:
  name_or_path: HuggingFaceTB/SmolLM2-135M-Instruct
  torch_dtype: bfloat16
training:
  learning_rate: 2e-4
  max_seq_length: 1024
  evaluation_strategy: steps
"""
GOOD = """\
name: gsm8k
task: sft
model:
  name_or_path: HuggingFaceTB/SmolLM2-135M-Instruct
  dtype: bfloat16
peft:
  r: 16
  lora_alpha: 32
  target_modules: all-linear
dataset:
  train:
    - {path: data/train.jsonl, columns: {user: question, assistant: answer}}
training:
  learning_rate: 2.0e-4
  max_length: 1024
"""


@dataclass(frozen=True)
class Shot:
    """One picture: its name, and what is done before it is taken."""

    name: str
    prepare: Callable[[Pilot[None], Path], Awaitable[None]]
    needs_run: bool = False


async def settle(pilot: Pilot[None]) -> None:
    """Wait until workers have ended and the screen is drawn."""
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def _explorer(pilot: Pilot[None], folder: Path) -> None:
    await _open(pilot, "recipe", folder / "recipes" / "gsm8k.yaml")


async def _problems(pilot: Pilot[None], folder: Path) -> None:
    await _open(pilot, "recipe", folder / "recipes" / "planted.yaml")
    await pilot.press("f8")


async def _completion(pilot: Pilot[None], folder: Path) -> None:
    await _open(pilot, "recipe", folder / "recipes" / "gsm8k.yaml")
    await pilot.press("ctrl+end", *"  warm", "ctrl+space")


async def _picker(pilot: Pilot[None], folder: Path) -> None:
    await pilot.press("f1")


async def _dashboard(pilot: Pilot[None], folder: Path) -> None:
    await _open(pilot, "run", next((folder / "runs").iterdir()))


async def _runs(pilot: Pilot[None], folder: Path) -> None:
    await pilot.press("alt+2")


async def _help(pilot: Pilot[None], folder: Path) -> None:
    await pilot.press("alt+question_mark")


async def _open(pilot: Pilot[None], kind: str, path: Path) -> None:
    app = pilot.app
    assert isinstance(app, Workbench)
    await app.open_view(kind, path)
    await settle(pilot)


SHOTS = (
    Shot("editor", _explorer),
    Shot("problems", _problems),
    Shot("completion", _completion),
    Shot("commands", _picker),
    Shot("help", _help),
    Shot("dashboard", _dashboard, needs_run=True),
    Shot("runs", _runs, needs_run=True),
)


def workspace(root: Path, run: Path | None) -> Path:
    """A folder with two recipes, a data file and, when there is one, the recorded run."""
    folder = root / "gsm8k"
    (folder / "recipes").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "recipes" / "gsm8k.yaml").write_text(GOOD)
    (folder / "recipes" / "planted.yaml").write_text(PLANTED)
    (folder / "data" / "train.jsonl").write_text('{"question": "What is 2 + 3?", "answer": "5"}\n')
    (folder / "runs").mkdir()
    if run is not None:
        shutil.copytree(run, folder / "runs" / run.name, ignore=shutil.ignore_patterns("checkpoints", "adapter", "connection.json"))
    return folder


async def take(shot: Shot, folder: Path, size: tuple[int, int], target: Path) -> Path:
    """Open the workbench at `size`, do what the shot says, and write DIR/<name>-<width>x<height>.svg."""
    app = Workbench(folder)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await shot.prepare(pilot, folder)
        await settle(pilot)
        await asyncio.sleep(0.6)  # one paint of the dashboard: pictures are not tests
        await pilot.pause()
        path = target / f"{shot.name}-{size[0]}x{size[1]}.svg"
        path.write_text(app.export_screenshot(title="tuitune"), encoding="utf-8")
    return path


def main(arguments: list[str]) -> int:
    """Take all pictures; prints each path."""
    parser = argparse.ArgumentParser(prog="screenshots", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--run", type=Path, help="a recorded run directory for the dashboard and the runs table")
    options = parser.parse_args(arguments)
    options.directory.mkdir(parents=True, exist_ok=True)
    for shot in SHOTS:
        if shot.needs_run and options.run is None:
            sys.stderr.write(f"{shot.name}: left out, it needs --run RUN_DIR\n")
            continue
        for size in SIZES:
            with tempfile.TemporaryDirectory() as scratch:
                folder = workspace(Path(scratch), options.run)
                sys.stdout.write(f"{asyncio.run(take(shot, folder, size, options.directory))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
