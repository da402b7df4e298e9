"""Chat with real tiny models: piped on the command line, and in the workbench behind a real terminal, side by side, on a tiny screen."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.living_hub import until
from tests.support.terminal import Terminal
from tests.support.tiny_model import make_tiny_model
from tuitune.runs.listing import list_runs

ROOT = Path(__file__).parents[2]
SECONDS = 90.0
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TUITUNE_WARM_UP": "0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a model and an adapter of it."""
    import peft
    import torch
    import transformers

    root = tmp_path_factory.mktemp("chat")
    make_tiny_model(root / "base")
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    model = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(root / "base"), config)
    model.save_pretrained(root / "tuned")
    transformers.AutoTokenizer.from_pretrained(root / "base").save_pretrained(root / "tuned")
    return root


def test_piped_questions_are_answered_by_both_models(folder: Path) -> None:
    words = ["chat", "tuned", "--against", "base", "--seed", "3", "--max-new-tokens", "6", "--cpu", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "tuitune", *words],
        input="the cat\none two\n",
        cwd=folder,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    assert [side["model"] for side in document["sides"]] == ["tuned", "base (base)"]
    assert [turn["prompt"] for turn in document["turns"]] == ["the cat", "one two"]
    for turn in document["turns"]:
        assert [answer["tokens"] for answer in turn["answers"]] == [6, 6]
        assert turn["answers"][0]["text"] != turn["answers"][1]["text"]
        assert turn["seed"] == 3


def test_a_chat_in_the_workbench(folder: Path, tmp_path: Path) -> None:
    """By the palette, two models on one question, interrupted; then on a screen of 60 × 16; ended with Shift+F5."""
    command = [sys.executable, "-m", "tuitune", "open", str(folder)]
    with Terminal(command, size=(120, 40), env=ENVIRONMENT, home=tmp_path) as terminal:
        terminal.wait_for("base", SECONDS)
        terminal.send("f1")
        terminal.wait_for(">", SECONDS)
        terminal.send("chat with a")
        terminal.wait_for("Talk with any model", SECONDS)
        terminal.send("enter")
        terminal.wait_for("A run, a folder", SECONDS)
        terminal.send("./tuned")
        terminal.wait_for("./tuned", SECONDS)
        terminal.send("enter")
        terminal.wait_for("Beside its base", SECONDS)
        terminal.send("enter")
        terminal.wait_for("ready  no system prompt", SECONDS)
        terminal.send("f2")
        terminal.wait_for("Sampling parameters", SECONDS)
        terminal.send("max_new_tokens=250", "enter")
        terminal.wait_for("250 tokens", SECONDS)
        terminal.send("the cat sat", "enter")
        terminal.wait_for("› the cat sat", SECONDS)
        terminal.send("escape")
        terminal.wait_for(re.compile("! interrupted|cut off|ended by itself"), SECONDS)  # a busy box may be later than the answer
        terminal.resize((60, 16))
        terminal.send("and now", "enter")
        terminal.wait_for("› and now", SECONDS)
        terminal.wait_for("base (base)", SECONDS)
        terminal.send("shift+f5")
        terminal.wait_for("stopped: stop by", SECONDS)
        terminal.send("ctrl+q")
    until(lambda: not any(run.alive for run in list_runs(folder / "runs")))
