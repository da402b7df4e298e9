"""In a real terminal, by keys only: a recipe with five planted errors becomes one without, and only those lines differ on disk."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.terminal import Terminal
from tuitune.recipe.schema import load_schema

PLANTED = """\
# my recipe        (blanks and comments stay)
name: demo
task: sft
model:
  name_or_path: HuggingFaceTB/SmolLM2-135M-Instruct
  torch_dtype: bfloat16   # an old name
peft:
  r: 8
dataset:
  train:
    - {path: data/train.jsonl, columns: {user: question, assistant: answer}}
training:
  learnin_rate: 2e-4
  max_seq_length: 1024
  lr_scheduler_type: cosin
  num_train_epochs: "3"
"""
MENDED = {5: "  dtype: bfloat16   # an old name", 12: "  learning_rate: 2e-4", 13: "  max_length: 1024", 14: "  lr_scheduler_type: cosine"}


def test_five_errors_to_none_a_completed_key_and_a_clean_file(tmp_path: Path) -> None:
    load_schema()  # some ten seconds the first time on a machine, not what this test is about
    recipe = tmp_path / "planted.yaml"
    recipe.write_text(PLANTED)
    with Terminal([sys.executable, "-m", "tuitune", str(tmp_path)], cwd=Path(__file__).parents[2]) as terminal:
        terminal.wait_for("planted.yaml")
        terminal.send("ctrl+p")
        terminal.settle()
        terminal.send("planted")
        terminal.settle()
        terminal.send("enter")
        terminal.wait_for("✗ 5", 60)
        for left in (4, 3, 2, 1):
            terminal.send("f8")
            terminal.settle(0.2)
            terminal.send("f4")
            terminal.wait_for(f"✗ {left}")
        terminal.send("f8")
        terminal.settle(0.2)
        terminal.send("f4")
        terminal.wait_gone("✗ 1")
        terminal.send("ctrl+end")
        terminal.send("  warmup_s")
        terminal.wait_for("warmup_steps")
        terminal.send("tab")
        terminal.wait_for("warmup_steps: ")
        terminal.send("5", "enter", "ctrl+s")
        terminal.wait_gone("planted.yaml ●")
        terminal.send("ctrl+q")
        assert terminal.process.wait(10) == 0
    done = subprocess.run([sys.executable, "-m", "tuitune", "validate", str(recipe), "--json"], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["summary"] == {"errors": 0, "warnings": 0}
    before, after = PLANTED.splitlines(), recipe.read_text().splitlines()
    changed = {index: line for index, line in enumerate(after[: len(before)]) if line != before[index]}
    assert {index: changed.get(index) for index in MENDED} == MENDED
    assert set(changed) == {*MENDED, 15}
    assert [line.strip() for line in after[len(before) :] if line.strip()] == ["warmup_steps: 5"]
