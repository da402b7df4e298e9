"""The same session with and without the cell diff, in two real terminals: equal cell for cell after every step.

At the end the screen must also equal what a full redraw (Ctrl+L) shows, and the diff must have written less than half the bytes.
"""

import sys
import time
from pathlib import Path

import pytest

from tests.support.terminal import Terminal
from tuitune.recipe.schema import load_schema

Cells = list[list[tuple[object, ...]]]
RECIPE = "name: demo # 漢字 and é\ntask: sft\nmodel:\n  name_or_path: x\ndataset:\n  train:\n    - {path: data/train.jsonl}\n"
STEPS: list[tuple[str, ...]] = [
    ("down",),
    ("down", "down"),
    ("enter",),
    ("ctrl+p",),
    ("re",),
    ("escape",),
    ("f1",),
    ("escape",),
    ("f6",),
    ("f6",),
    ("f8",),
    ("x", "y"),
    ("ctrl+z",),
    ("ctrl+t",),
    ("ctrl+b",),
    ("f12",),
    ("f12",),
    ("alt+2",),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work" / "data").mkdir(parents=True)
    (tmp_path / "work" / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "work" / "data" / "train.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    return tmp_path / "work"


def still(terminal: Terminal) -> Cells:
    """The cells without the right panel, whose CPU and RAM figures never stand still."""
    return [row[:88] for row in terminal.cells()]


def differing(lean: Terminal, stock: Terminal) -> list[tuple[int, int, object, object]]:
    """The cells (column, row, lean, stock) that are not alike."""
    rows = enumerate(zip(still(lean), still(stock)))
    return [(x, y, one, other) for y, pair in rows for x, (one, other) in enumerate(zip(*pair)) if one != other]


def become_alike(lean: Terminal, stock: Terminal, step: object, written: tuple[int, int], timeout: float = 60.0) -> None:
    """Wait until both have answered the step (a key that changes nothing is given a second) and show the same, and go on doing so."""
    called = time.monotonic()
    while time.monotonic() < called + 1 and (lean.bytes_out == written[0] or stock.bytes_out == written[1]):
        time.sleep(0.01)
    while True:
        for terminal in (lean, stock):
            terminal.settle(0.12)
        found = differing(lean, stock)
        if not found:
            return
        assert time.monotonic() < called + timeout, (
            f"after {step}: {len(found)} cells differ, {found[:5]}\n{lean.screen()}\n---\n{stock.screen()}"
        )


@pytest.mark.parametrize(("size", "colors"), [((120, 40), "truecolor"), ((120, 30), "256"), ((88, 24), "16")])
def test_lean_equals_stock_after_every_step(folder: Path, size: tuple[int, int], colors: str) -> None:
    load_schema()
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tuitune", str(folder), *(["--colors", colors] if colors != "truecolor" else [])]
    with (
        Terminal(command, size=size, colors=colors, cwd=root) as lean,
        Terminal(command, size=size, colors=colors, cwd=root, env={"TUITUNE_CELL_DIFF": "0"}) as stock,
    ):
        for terminal in (lean, stock):
            terminal.wait_for("recipe.yaml", 60)
            terminal.settle(0.5)
        for step in STEPS:
            written = (lean.bytes_out, stock.bytes_out)
            for terminal in (lean, stock):
                terminal.send(*step)
            become_alike(lean, stock, step, written)
        assert lean.bytes_out < stock.bytes_out / 2
        for new_size in ((80, 24), size):
            written = (lean.bytes_out, stock.bytes_out)
            for terminal in (lean, stock):
                terminal.resize(new_size)
            become_alike(lean, stock, new_size, written)
        painted, before = still(lean), lean.bytes_out
        lean.send("ctrl+l")
        lean.settle(0.3)
        assert lean.bytes_out > before + 1000
        assert still(lean) == painted
