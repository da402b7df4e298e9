"""The workbench as a person behind a terminal meets it: paint, keys, bytes, idle, a slow line, a busy run, a lost line.

The real program runs in a pseudo-terminal (tests/support/terminal.py) on a workspace made here; the emulator replays what came only after
the figure is taken. A bare Textual app goes through the same start in the same call: the anchor that tells a slow box from a slow change.
Milliseconds are noisy on a shared box (note load_1m in the document), bytes are not.

What is pressed and what is waited for stands at the top.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support.terminal import Terminal

ROOT = Path(__file__).parents[2]
SIZE = (120, 40)
WORKBENCH = [sys.executable, "-m", "tuitune", "open"]
BARE = [sys.executable, "-c", "from textual.app import App\nfrom textual.widgets import Static\n"
        "class Bare(App):\n def compose(self): yield Static('ready to measure')\nBare().run()"]  # fmt: skip
BARE_READY = "ready to measure"

RECIPE_NAME = "recipe.yaml"
FOLDER_READY = RECIPE_NAME  # the explorer lists the folder: the first meaningful paint
EDITOR_READY = "name_or_path"
LIST_SETUP: tuple[str, ...] = ()  # the explorer has the keyboard at start
LIST_KEYS = ("down", "up")
FOCUS_LIST = ("alt+1",)
FOCUS_EDITOR = ("alt+1", "f6")
TYPE_SETUP = ("ctrl+end", "enter")
TYPED = "# why: the rate is halved"  # a comment: the plain path of a key
COMPLETED = "training:\nlogging_steps: 10"  # a key of the recipe: the completion box opens and closes
GPU_PANEL = ("alt+3",)  # shows or hides it
GPU_SHOWN = "BOX"  # a title that only the panel has
OPEN_RUN = ("alt+r",)
RUN_READY = "loss"

KEYS = 20  # of each kind and run
WINDOW_S = 0.35  # for the answer to one key
IDLE_S = 8.0
SLOW_LINE = 30_000  # bytes a second
TYPING_HZ = 10
TRAINING_HZ, BUSY_HZ = 2, 1000  # events a second
HISTORY = 2000  # steps that are there before a stream starts: charts in the middle of a run, not in their first seconds
RECIPE = """\
# A recipe of the usual length, so that typing happens in the middle of highlighted text.
name: bench
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
"""


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """All parts, or those of `--only`; figures are medians over `--runs` starts, keys are pooled over them."""
    parts: dict[str, Callable[[Bench], dict[str, Any]]] = {
        "start": start, "keys": keys, "slow": slow, "busy": busy, "training": training, "hangup": hangup,
    }  # fmt: skip
    wanted = [part for part in arguments.only.split(",") if part] or list(parts)
    if unknown := sorted(set(wanted) - set(parts)):
        raise SystemExit(f"no part named {', '.join(unknown)}; there are: {', '.join(parts)}")
    folder = Path(tempfile.mkdtemp(prefix="tuitune-bench-"))
    try:
        here = Bench(folder, arguments.runs, stock=arguments.stock)
        return {"size": list(SIZE), "cell_diff": not arguments.stock, **{part: parts[part](here) for part in wanted}}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Bench:
    """A prepared workspace and how to open it. The home below it is nobody's: no settings, drafts or histories of the user."""

    def __init__(self, folder: Path, runs: int, *, stock: bool) -> None:
        self.home, self.workspace, self.runs = folder / "home", folder / "workspace", runs
        self.recipe = self.workspace / RECIPE_NAME
        self.environment = {"TUITUNE_CELL_DIFF": "0" if stock else "1", "PYTHONPATH": str(ROOT)}
        (self.workspace / "data").mkdir(parents=True)
        for number in range(30):
            (self.workspace / "data" / f"part-{number:02}.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
        self.recipe.write_text(RECIPE)
        with self.open(self.recipe) as terminal:  # makes the schema of the installed libraries and compiles byte code, once
            terminal.wait_for(EDITOR_READY, 60)
            self._until_alone(terminal)

    def open(self, what: Path | None = None, **options: Any) -> Terminal:
        """The workbench on the workspace, or on a file in it."""
        return Terminal([*WORKBENCH, str(what or self.workspace)], SIZE, self.environment, ROOT, home=self.home, **options)

    @contextmanager
    def stream(self, rate: float) -> Iterator[None]:
        """A living run whose journal grows by `rate` events a second (tests/bench/event_stream.py)."""
        shutil.rmtree(self.workspace / "runs", ignore_errors=True)
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.event_stream", str(self.workspace), str(rate), str(HISTORY)], cwd=ROOT
        )
        try:
            yield
        finally:
            writer.terminate()
            writer.wait()
            shutil.rmtree(self.workspace / "runs", ignore_errors=True)

    @staticmethod
    def _until_alone(terminal: Terminal) -> None:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            terminal.settle(1.0)
            if len(own_tree(terminal)) == 1:
                return
        raise SystemExit("the workbench still has a child process after 180 s")


# What is measured of a running program


def own_tree(terminal: Terminal) -> list[psutil.Process]:
    """The workbench and its children without the analyst, which is a service beside it (DESIGN.md, section 1)."""
    process = psutil.Process(terminal.process.pid)
    return [process, *(child for child in process.children(recursive=True) if "tuitune.analyst" not in child.cmdline())]


def cpu_and_bytes(terminal: Terminal, seconds: float) -> dict[str, float]:
    """CPU in percent of one core and bytes a second over so many seconds without a key."""
    tree = own_tree(terminal)

    def spent() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in tree)

    cpu, written, began = spent(), terminal.bytes_out, time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return {"cpu_percent": round((spent() - cpu) / took * 100, 2), "bytes_per_second": round((terminal.bytes_out - written) / took, 1)}


def press(terminal: Terminal, names: Sequence[str]) -> list[tuple[float, int]]:
    """Each key by itself: milliseconds until the screen changed, and bytes; keys without an answer are left out."""
    out = []
    for name in names:
        time.sleep(random.uniform(0.02, 0.08))
        for _ in terminal.replay():
            pass
        sent = time.monotonic()
        terminal.send(name)
        time.sleep(WINDOW_S)
        seen = [item for item in terminal.replay() if item[0] >= sent]
        answered = next((when for when, _, changed in seen if changed), None)
        if answered is not None:
            out.append(((answered - sent) * 1e3, sum(size for _, size, _ in seen)))
    return out


def summary(keys: Sequence[tuple[float, int]], pressed: int) -> dict[str, Any]:
    """p50 and p95 of pooled keys."""
    if not keys:
        return {"keys": pressed, "answered": 0}
    times, sizes = sorted(ms for ms, _ in keys), sorted(size for _, size in keys)

    def at(values: Sequence[float], share: float) -> float:
        return round(values[min(len(values) - 1, round(share * (len(values) - 1)))], 1)

    return {
        "keys": pressed,
        "answered": len(keys),
        "ms_p50": at(times, 0.5),
        "ms_p95": at(times, 0.95),
        "bytes_p50": at(sizes, 0.5),
        "bytes_p95": at(sizes, 0.95),
    }


def presses(text: str) -> list[str]:
    """A text as keys."""
    return ["enter" if character == "\n" else "space" if character == " " else character for character in text]


def first_paint(terminal: Terminal, ready: str) -> dict[str, float]:
    """Seconds to the first screen that shows `ready`, bytes until then and until it is quiet. Ends with the program still running."""
    terminal.settle(0.7, timeout=20)
    written, paint = 0, None
    for when, size, _ in terminal.replay():
        written += size
        if paint is None and ready in terminal.screen_now():
            paint = (when - terminal.started, written)
    if paint is None:
        terminal.wait_for(ready, 20)
        raise SystemExit(f"{ready!r} came only after the first quiet moment; set it to what the first paint shows")
    return {"paint_s": paint[0], "paint_bytes": paint[1], "start_bytes": written}


def median(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}


# The parts


def start(here: Bench) -> dict[str, Any]:
    """First paint warm and cold, of the workbench and of a bare Textual app beside it; memory; idle with and without the GPU panel."""
    result: dict[str, Any] = {}
    for name, ready in (("bare", BARE_READY), ("workbench", FOLDER_READY)):
        for kind in ("warm", "cold"):
            rows = []
            for _ in range(here.runs):
                if kind == "cold":
                    forget_files()
                terminal = Terminal(BARE, SIZE, here.environment, ROOT, home=here.home) if name == "bare" else here.open()
                with terminal:
                    rows.append(first_paint(terminal, ready))
            result[f"{name}_{kind}"] = median(rows)
    result["times_bare_warm"] = round(result["workbench_warm"]["paint_s"] / result["bare_warm"]["paint_s"], 2)
    with here.open() as terminal:
        terminal.wait_for(FOLDER_READY)
        terminal.settle(1.0)
        result["pss_mib"] = round(sum(each.memory_full_info().pss for each in own_tree(terminal)) / 2**20, 1)
        for name, shown in (("idle_gpu_panel", True), ("idle", False)):
            gpu_panel(terminal, shown)
            result[name] = cpu_and_bytes(terminal, IDLE_S)
    return result


def keys(here: Bench) -> dict[str, Any]:
    """A cursor key in the explorer, a key typed in the recipe, and keys that open the completion box."""
    pooled: dict[str, list[tuple[float, int]]] = {"list": [], "typed": [], "completed": []}
    pressed = dict.fromkeys(pooled, 0)
    for _ in range(here.runs):
        with here.open() as terminal:
            terminal.wait_for(FOLDER_READY)
            terminal.settle()
            terminal.send(*LIST_SETUP)
            names = [LIST_KEYS[number % len(LIST_KEYS)] for number in range(KEYS)]
            pressed["list"] += len(names)
            pooled["list"] += press(terminal, names)
        for kind, text in (("typed", TYPED), ("completed", COMPLETED)):
            with here.open(here.recipe) as terminal:
                terminal.wait_for(EDITOR_READY)
                terminal.settle(0.5)
                terminal.send(*TYPE_SETUP)
                terminal.settle()
                names = presses(text)
                pressed[kind] += len(names)
                pooled[kind] += press(terminal, names)
                if kind == "typed":
                    shown_or_fail(terminal, text)
    return {kind: summary(pooled[kind], pressed[kind]) for kind in pooled}


def slow(here: Bench) -> dict[str, Any]:
    """Typing at 10 keys a second over a line of 30 KB/s: how long after the last key the whole text is on screen.

    (Not the last change: the GPU panel's figures change once a second whoever types.)
    """
    lags = []
    for _ in range(here.runs):
        with here.open(here.recipe, bytes_per_second=SLOW_LINE) as terminal:
            terminal.wait_for(EDITOR_READY, 30)
            terminal.settle(1.0)
            terminal.send(*TYPE_SETUP)
            terminal.settle(0.5)
            for _ in terminal.replay():
                pass
            for name in presses(TYPED):
                terminal.send(name)
                last = time.monotonic()
                time.sleep(1 / TYPING_HZ)
            terminal.settle(0.7, timeout=30)
            whole = next((when for when, _, _ in terminal.replay() if TYPED in terminal.screen_now()), None)
            shown_or_fail(terminal, TYPED)
            if whole is None:
                raise SystemExit("the typed text came only after the line had been quiet: this lag cannot be told")
            lags.append((whole - last) * 1e3)
    return {"bytes_per_second": SLOW_LINE, "keys_per_second": TYPING_HZ, "lag_ms": [round(lag, 1) for lag in lags]}


def busy(here: Bench) -> dict[str, Any]:
    """List and typed keys while a run journals 1,000 events a second and its dashboard is open."""
    result: dict[str, Any] = {"events_per_second": BUSY_HZ}
    with here.stream(BUSY_HZ), here.open(here.recipe) as terminal:
        terminal.wait_for(EDITOR_READY)
        terminal.settle(0.5, timeout=3)
        open_run(terminal)
        terminal.send(*FOCUS_LIST)
        time.sleep(1)
        result["dashboard"] = cpu_and_bytes(terminal, IDLE_S)
        result["list"] = summary(press(terminal, [LIST_KEYS[number % 2] for number in range(2 * KEYS)]), 2 * KEYS)
        terminal.send("ctrl+p")
        time.sleep(0.5)
        terminal.send(RECIPE_NAME, "enter")
        terminal.wait_for(EDITOR_READY)
        terminal.send(*TYPE_SETUP)
        time.sleep(0.5)
        names = presses(TYPED)
        result["typed"] = summary(press(terminal, names), len(names))
        shown_or_fail(terminal, TYPED)
    return result


def training(here: Bench) -> dict[str, Any]:
    """The dashboard of a run that makes two steps a second, without and with the GPU panel."""
    result: dict[str, Any] = {"steps_per_second": TRAINING_HZ, "steps_before": HISTORY}
    with here.stream(TRAINING_HZ), here.open() as terminal:
        terminal.wait_for(FOLDER_READY)
        open_run(terminal)
        for name, shown in (("dashboard_and_gpu_panel", True), ("dashboard", False)):
            gpu_panel(terminal, shown)
            result[name] = cpu_and_bytes(terminal, 2 * IDLE_S)
    return result


def hangup(here: Bench) -> dict[str, Any]:
    """Seconds until the program is gone once its terminal is lost, and whether the unsaved text was kept."""
    gone = []
    for _ in range(here.runs):
        drafts = here.home / "cache/tuitune/drafts"
        shutil.rmtree(drafts, ignore_errors=True)
        with here.open(here.recipe) as terminal:
            terminal.wait_for(EDITOR_READY)
            terminal.settle(0.5)
            terminal.send(*TYPE_SETUP, "# unsaved")
            terminal.wait_for("# unsaved")
            terminal.settle()
            terminal.hang_up()
            began = time.monotonic()
            terminal.process.wait(20)
            gone.append(round(time.monotonic() - began, 3))
        if not any("# unsaved" in draft.read_text() for draft in drafts.glob("*")):
            raise SystemExit("the unsaved text was lost by the hang-up")
    return {"gone_s": gone, "draft_saved": True}


def gpu_panel(terminal: Terminal, shown: bool) -> None:
    """Have the GPU panel on screen, or not; whichever it is at the start goes by size and settings."""
    if (GPU_SHOWN in terminal.screen()) != shown:
        terminal.send(*GPU_PANEL)
    if shown:
        terminal.wait_for(GPU_SHOWN)
    else:
        terminal.wait_gone(GPU_SHOWN)
    time.sleep(2)


def open_run(terminal: Terminal) -> None:
    """The dashboard of the living run, as soon as the workbench has seen it."""
    deadline = time.monotonic() + 20
    while RUN_READY not in terminal.screen() or "grad" not in terminal.screen():
        if time.monotonic() > deadline:
            raise SystemExit(f"the dashboard never came:\n{terminal.screen()}")
        terminal.send(*OPEN_RUN)
        time.sleep(0.5)


def shown_or_fail(terminal: Terminal, text: str) -> None:
    """A figure about typing counts only when the text arrived."""
    terminal.settle(0.3, timeout=3)
    if text not in terminal.screen():
        raise SystemExit(f"{text!r} was typed but is not on screen:\n{terminal.screen()}")


def forget_files() -> None:
    """Drop Python's, Textual's and our own files from the page cache, as after a reboot."""
    os.sync()
    import rich
    import textual

    for folder in (Path(os.__file__).parent, Path(rich.__file__).parents[1], Path(textual.__file__).parent, ROOT / "tuitune"):
        for path in folder.rglob("*.py*") if folder.name != "site-packages" else folder.glob("*/*.py*"):
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except OSError:
                continue
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--stock", action="store_true")
    print(json.dumps(bench(parser.parse_args()), indent=1))
