"""`python -m tests.support.screenshots DIR --run RUN_DIR [NAME …]`: SVG pictures of every view of the real workbench at three sizes.

The workbench is the real one, driven by keys and commands as a user would; only its folder is made for the picture. Dashboard and runs
show the recorded run RUN_DIR (a copy), the tokens are those of the demo's data and model as the real trainer prepares them.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from textual.pilot import Pilot

from tests.support import steering_shots
from tuitune.demo.workspace import make_demo
from tuitune.workbench.app import Workbench
from tuitune.workbench.views.plan_view import PlanView
from tuitune.workbench.views.view import View

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

LARGE = """\
name: gsm8k-7b
task: sft
model:
  name_or_path: {model}
  dtype: bfloat16
peft:
  r: 16
  lora_alpha: 32
  target_modules: all-linear
dataset:
  train:
    - {{path: ../data/train.jsonl, columns: {{user: question, assistant: answer}}}}
  eval:
    - {{path: ../data/test.jsonl, columns: {{user: question, assistant: answer}}}}
training:
  learning_rate: 2.0e-4
  max_length: 4096
  per_device_train_batch_size: 4
  gradient_accumulation_steps: 4
  eval_strategy: steps
"""
# Qwen2.5-7B's config.json as far as it decides the memory; its weights are not needed for a plan
QWEN_7B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152_064,
    "tie_word_embeddings": False,
}


@dataclass(frozen=True)
class Shot:
    """One picture: its name, what is done before it is taken, and the theme when it is not the usual one."""

    name: str
    prepare: Callable[[Pilot[None], Path], Awaitable[None]]
    theme: str = ""


async def settle(pilot: Pilot[None]) -> None:
    """Wait until workers have ended and the screen is drawn."""
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def _open(pilot: Pilot[None], kind: str, path: Path) -> View:
    app = pilot.app
    assert isinstance(app, Workbench)
    view = await app.open_view(kind, path)
    assert view is not None
    view.focus_content()
    await settle(pilot)
    return view


async def _start(pilot: Pilot[None], folder: Path) -> None:
    """As the folder opens."""


async def _editor(pilot: Pilot[None], folder: Path) -> None:
    await _open(pilot, "recipe", folder / "recipes" / "gsm8k.yaml")


async def _problems(pilot: Pilot[None], folder: Path) -> None:
    await _open(pilot, "recipe", folder / "recipes" / "planted.yaml")
    await pilot.press("f8", "f8")


async def _preflight(pilot: Pilot[None], folder: Path) -> None:
    await _open(pilot, "recipe", folder / "doubtful.yaml")
    await pilot.press("alt+p")
    await _until(pilot, lambda app: any(check.report for check in app.checks.values()), "no report")
    await pilot.press("ctrl+t", "ctrl+t", "home")


async def _finding(pilot: Pilot[None], folder: Path) -> None:
    await _preflight(pilot, folder)
    await pilot.press("e")


async def _fix(pilot: Pilot[None], folder: Path) -> None:
    await _preflight(pilot, folder)
    await pilot.press("f")


async def _until(pilot: Pilot[None], condition: Callable[[Workbench], object], failed: str) -> None:
    """Wait for what the analyst does: it loads the training libraries first."""
    app, deadline = pilot.app, time.monotonic() + 120
    assert isinstance(app, Workbench)
    while not condition(app):
        assert time.monotonic() < deadline, failed
        await pilot.pause(0.1)


async def _completion(pilot: Pilot[None], folder: Path) -> None:
    await _editor(pilot, folder)
    await pilot.press("ctrl+end", *"  save_", "ctrl+space")


async def _find(pilot: Pilot[None], folder: Path) -> None:
    await _editor(pilot, folder)
    await pilot.press("ctrl+f", *"rate")


async def _explain(pilot: Pilot[None], folder: Path) -> None:
    view = await _open(pilot, "recipe", folder / "recipes" / "gsm8k.yaml")
    view.go_to(15, 5)
    await pilot.pause()
    await pilot.press("f2")


async def _compare(pilot: Pilot[None], folder: Path) -> None:
    await _open(pilot, "recipe", folder / "recipes" / "gsm8k-qlora.yaml")
    await pilot.press("f1", *"compare with", "enter")


async def _split(pilot: Pilot[None], folder: Path) -> None:
    await _open(pilot, "recipe", folder / "recipes" / "gsm8k-qlora.yaml")
    await _open(pilot, "run", next((folder / "runs").iterdir()))
    await pilot.press("ctrl+backslash")


async def _question(pilot: Pilot[None], folder: Path) -> None:
    await _open(pilot, "recipe", folder / "demo.yaml")
    await pilot.press("f5")


async def _tokens(pilot: Pilot[None], folder: Path) -> None:
    view = await _open(pilot, "recipe", folder / "demo.yaml")
    await pilot.press("f7")
    deadline = time.monotonic() + 60  # the analyst loads the training libraries
    while getattr(pilot.app.editor.active, "inspection", None) is None:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline, f"no rows: {view}"
        await pilot.pause(0.1)
    await pilot.press("down", "tab", *["right"] * 32)


async def _figures(pilot: Pilot[None], folder: Path) -> None:
    await _tokens(pilot, folder)
    deadline = time.monotonic() + 60
    while getattr(pilot.app.editor.active, "survey", None) is None:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline, "no figures over all rows"
        await pilot.pause(0.1)
    await pilot.press("a")


async def _template(pilot: Pilot[None], folder: Path) -> None:
    view = await _open(pilot, "recipe", folder / "demo.yaml")
    await pilot.press("shift+f7")
    deadline = time.monotonic() + 60  # as above
    while getattr(pilot.app.editor.active, "report", None) is None:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline, f"no render: {view}"
        await pilot.pause(0.1)
    await pilot.press("n", "right_square_bracket", "right_square_bracket")


async def _alignment(pilot: Pilot[None], folder: Path, *keys: str) -> None:
    view = await _open(pilot, "recipe", folder / "demo.yaml")
    await pilot.press("alt+a")
    deadline = time.monotonic() + 60  # as above
    while getattr(pilot.app.editor.active, "found", None) is None:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline, f"no alignment: {view}"
        await pilot.pause(0.1)
    await pilot.press(*keys, "down")


async def _coverage(pilot: Pilot[None], folder: Path) -> None:
    await _alignment(pilot, folder, "c")


async def _plan(pilot: Pilot[None], folder: Path, *keys: str) -> None:
    """A model of 7 billion parameters on a card with 24 GiB."""
    (folder / "recipes" / "qwen-7b.yaml").write_text(LARGE.format(model=large_model(folder.parent)))
    await _open(pilot, "recipe", folder / "recipes" / "qwen-7b.yaml")
    await pilot.press("alt+m")
    await settle(pilot)
    view = pilot.app.editor.active  # type: ignore[attr-defined]
    assert isinstance(view, PlanView)
    while view.state is None or view.state.card is None or view.state.card.name != "RTX 4090":
        await pilot.press("g")
        await settle(pilot)
    await pilot.press(*keys)


async def _plan_sliders(pilot: Pilot[None], folder: Path) -> None:
    await _plan(pilot, folder, "left", "left", "down", "left", "down", "right", "down", "down", "left")


async def _plan_advice(pilot: Pilot[None], folder: Path) -> None:
    await _plan(pilot, folder, *["down"] * 5)


async def _plan_refused(pilot: Pilot[None], folder: Path) -> None:
    (folder / "recipes" / "compiled.yaml").write_text(GOOD + "  torch_compile: true\n")
    await _open(pilot, "recipe", folder / "recipes" / "compiled.yaml")
    await pilot.press("alt+m")
    await settle(pilot)


async def _data(pilot: Pilot[None], folder: Path) -> None:
    await _open(pilot, "data", folder / "data" / "train.jsonl")


async def _mapping(pilot: Pilot[None], folder: Path) -> None:
    await _data(pilot, folder)
    await pilot.pause(1.0)  # the first rows are there
    await pilot.press("m")


async def _quick_open(pilot: Pilot[None], folder: Path) -> None:
    await pilot.press("ctrl+p")


async def _commands(pilot: Pilot[None], folder: Path) -> None:
    await pilot.press("f1")


async def _themes(pilot: Pilot[None], folder: Path) -> None:
    await _editor(pilot, folder)
    await pilot.press("f1", *"colour theme", "enter")


async def _help(pilot: Pilot[None], folder: Path) -> None:
    await pilot.press("alt+question_mark")


async def _dashboard(pilot: Pilot[None], folder: Path) -> None:
    await _open(pilot, "run", next((folder / "runs").iterdir()))


async def _cursor(pilot: Pilot[None], folder: Path) -> None:
    await _dashboard(pilot, folder)
    await pilot.press("m", "s", *["left"] * 24)


async def _memory(pilot: Pilot[None], folder: Path) -> None:
    await _dashboard(pilot, folder)
    view = pilot.app.editor.active  # type: ignore[attr-defined]
    while view.charts.slot != "memory":
        await pilot.press("tab")
    await pilot.press("m")


async def _events(pilot: Pilot[None], folder: Path) -> None:
    await _dashboard(pilot, folder)
    await pilot.press("e")


async def _runs(pilot: Pilot[None], folder: Path) -> None:
    await pilot.press("alt+2")


SHOTS = (
    Shot("start", _start),
    Shot("editor", _editor),
    Shot("editor-light", _editor, "tuitune-light"),
    Shot("editor-ansi", _editor, "ansi-dark"),
    Shot("problems", _problems),
    Shot("preflight", _preflight),
    Shot("finding", _finding),
    Shot("fix", _fix),
    Shot("completion", _completion),
    Shot("explain", _explain),
    Shot("find", _find),
    Shot("compare", _compare),
    Shot("split", _split),
    Shot("data", _data),
    Shot("mapping", _mapping),
    Shot("tokens", _tokens),
    Shot("figures", _figures),
    Shot("template", _template),
    Shot("alignment", _alignment),
    Shot("coverage", _coverage),
    Shot("plan", _plan),
    Shot("plan-sliders", _plan_sliders),
    Shot("plan-advice", _plan_advice),
    Shot("plan-light", _plan_sliders, "tuitune-light"),
    Shot("plan-ansi", _plan, "ansi-dark"),
    Shot("plan-refused", _plan_refused),
    Shot("question", _question),
    Shot("quick-open", _quick_open),
    Shot("commands", _commands),
    Shot("themes", _themes),
    Shot("help", _help),
    Shot("dashboard", _dashboard),
    Shot("dashboard-light", _dashboard, "tuitune-light"),
    Shot("chart", _cursor),
    Shot("events", _events),
    Shot("runs", _runs),
    Shot("memory", _memory),
    *(Shot(name, prepare) for name, prepare in steering_shots.SCENES.items()),
    Shot("chat", steering_shots.ended_chat),
)
RECORDED = {**dict.fromkeys(steering_shots.SCENES, "steered"), "chat": "chat"}  # pictures and the option that names what they show


def workspace(root: Path, run: Path) -> Path:
    """A folder with the demo (its model and data are real), three more recipes, and the recorded run with the recipe it came from."""
    folder = root / "gsm8k"
    make_demo(folder)
    (folder / "recipes").mkdir()
    (folder / "recipes" / "gsm8k.yaml").write_text(GOOD)
    (folder / "recipes" / "planted.yaml").write_text(PLANTED)
    (folder / "doubtful.yaml").write_text(doubtful((folder / "demo.yaml").read_text()))
    trained = (run / "recipe.yaml").read_text()
    edited = trained.replace("r: 16, lora_alpha: 32", "r: 32, lora_alpha: 64").replace("learning_rate: 2.0e-4", "learning_rate: 1.0e-4")
    (folder / "recipes" / "gsm8k-qlora.yaml").write_text(edited)
    shutil.copytree(run, folder / "runs" / run.name, ignore=shutil.ignore_patterns("checkpoints", "adapter", "connection.json"))
    manifest = folder / "runs" / run.name / "manifest.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "recipe_path": str(folder / "recipes" / "gsm8k-qlora.yaml"), "host": os.uname().nodename}))
    return folder


def large_model(root: Path) -> Path:
    """A folder with Qwen2.5-7B's config.json."""
    folder = root / "Qwen2.5-7B"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN_7B))
    return folder


def doubtful(recipe: str) -> str:
    """The demo's recipe with faults that only preflight sees: rows that are cut, training rows in the evaluation, a wild learning rate."""
    changes = {
        "max_length: 256 ": "max_length: 48 ",
        "data/test.jsonl": "data/train.jsonl",
        "learning_rate: 1.0e-3": "learning_rate: 5.0e-2",
    }
    for old, new in changes.items():
        recipe = recipe.replace(old, new)
    return recipe


async def take(shot: Shot, folder: Path, size: tuple[int, int], target: Path) -> Path:
    """Open the workbench at `size`, do what the shot says, and write DIR/<name>-<width>x<height>.svg."""
    app = Workbench(folder)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        if shot.theme:
            app.theme = shot.theme
        await shot.prepare(pilot, folder)
        await asyncio.sleep(0.8)  # an open question has a worker that waits for it, so nothing to wait for tells that all is drawn
        await pilot.pause()
        path = target / f"{shot.name}-{size[0]}x{size[1]}.svg"
        path.write_text(app.export_screenshot(title="tuitune"), encoding="utf-8")
    return path


def main(arguments: list[str]) -> int:
    """Take all pictures, or those named; prints each path."""
    parser = argparse.ArgumentParser(prog="screenshots", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="a recorded run directory: pictures do not show made-up figures")
    parser.add_argument("--steered", type=Path, help="a recorded run that was steered while it trained, for the pictures of that")
    parser.add_argument("--chat", type=Path, help="a recorded chat, for the picture of one")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of pictures; all of them when none is named")
    options = parser.parse_intermixed_args(arguments)
    options.directory.mkdir(parents=True, exist_ok=True)
    for shot in SHOTS:
        needed = RECORDED.get(shot.name)
        recorded = getattr(options, needed) if needed else None
        if (options.names and shot.name not in options.names) or (needed and recorded is None):
            continue
        for size in SIZES:
            with tempfile.TemporaryDirectory() as scratch:
                os.environ["XDG_CONFIG_HOME"] = str(Path(scratch) / "config")  # nobody's own settings
                folder = workspace(Path(scratch), options.run)
                if recorded is not None:
                    steering_shots.take_along(recorded, folder)
                sys.stdout.write(f"{asyncio.run(take(shot, folder, size, options.directory))}\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
