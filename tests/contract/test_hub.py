"""Models and data by their Hub names, against a server that answers like the Hub: the real clients, no network."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.test_training import LORA
from tests.support.hub import HubServer
from tests.support.runs import train
from tests.support.tiny_model import write_rows
from tuitune.demo.model import HUB_ID, NAME

RECIPE = (
    f"name: test\ntask: sft\nmodel: {{name_or_path: org/tiny, dtype: float32}}\n{LORA}"
    "dataset:\n  train: [{path: org/rows, columns: {user: question, assistant: answer}}]\n"
    "training: {max_steps: 1, per_device_train_batch_size: 2, max_length: 64, save_strategy: 'no'}\n"
)


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path) -> Iterator[HubServer]:
    root = tmp_path / "hub"
    for name in ("org/tiny", HUB_ID):
        shutil.copytree(tiny_model, root / "models" / name)
    rows = root / "datasets" / "org" / "rows"
    rows.mkdir(parents=True)
    write_rows(rows / "train.jsonl", 12)
    with HubServer(root) as server:
        yield server


def test_a_recipe_of_hub_names_trains(hub: HubServer, tmp_path: Path) -> None:
    trained = train(tmp_path, RECIPE, **hub.environment(tmp_path / "home"))
    assert trained.returncode == 0, trained.output
    assert trained.of("data")[0]["rows"] == 12
    assert trained.of("end")[0]["reason"] == "done"
    assert any("/org/tiny/resolve/" in request for request in hub.requests)
    assert any("/datasets/org/rows" in request for request in hub.requests)


def test_what_the_hub_does_not_have_is_one_sentence_with_the_name(hub: HubServer, tmp_path: Path) -> None:
    trained = train(tmp_path, RECIPE.replace("org/rows", "org/none"), **hub.environment(tmp_path / "home"))
    assert trained.returncode == 1
    assert "the data set org/none is neither a file nor to be had from the Hub" in trained.of("end")[0]["error"]


def test_the_demo_model_comes_from_the_hub_when_it_is_there(hub: HubServer, tmp_path: Path) -> None:
    code = "from tuitune.demo.model import demo_model, is_whole; folder = demo_model(print); print(folder, is_whole(folder))"
    environment = {
        **hub.environment(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "cache" / "tuitune" / "models" / NAME
    assert done.stdout.splitlines()[-1] == f"{folder} True"
    assert json.loads((folder / "config.json").read_text())["model_type"]
    assert "package registry" not in done.stdout, "nothing else was asked"
