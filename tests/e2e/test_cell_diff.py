"""The same session with and without the cell diff, in two real terminals: equal cell for cell after every step.

At the end the screen must also equal what a full redraw (Ctrl+L) shows, and the diff must have written less than half the bytes.
"""

import sys
from pathlib import Path

import pytest

from tests.support.terminal import Terminal
from tuitune.recipe.schema import load_schema

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


def still(cells: list[list[tuple[object, ...]]]) -> list[list[tuple[object, ...]]]:
    """The cells without the right panel, whose CPU and RAM figures never stand still."""
    return [row[:88] for row in cells]


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
            terminal.wait_for("recipe.yaml", 20)
            terminal.settle(0.8)
        for step in STEPS:
            for terminal in (lean, stock):
                terminal.send(*step)
            for terminal in (lean, stock):
                terminal.settle(0.4)
            assert still(lean.cells()) == still(stock.cells()), f"after {step}\n{lean.screen()}\n---\n{stock.screen()}"
        painted = still(lean.cells())
        lean.send("ctrl+l")
        lean.settle(0.4)
        assert still(lean.cells()) == painted
        assert lean.bytes_out < stock.bytes_out / 2
