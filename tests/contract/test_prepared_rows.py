"""Rows as arrays make the batches that lists make, for every way in which TRL's trainer lays them out."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.runs import new_run
from tests.support.tiny_model import make_tiny_model, write_rows
from tuitune.recipe.recipe import load_recipe
from tuitune.trainer.build import build
from tuitune.trainer.prepared import rows_as_arrays

RECIPE = """task: sft
model: {{name_or_path: {model}}}
peft: {{r: 4, target_modules: all-linear}}
dataset: {{train: [{{path: {data}, columns: {{user: question, assistant: answer}}}}]}}
launch: {{gpus: cpu}}
training: {{max_steps: 3, per_device_train_batch_size: 4, max_length: 24, save_strategy: 'no', seed: 7, {more}}}
"""
WAYS = {
    "padded": "padding_free: false",
    "joined": "padding_free: auto",
    "packed": "packing: true, packing_strategy: bfd_split",
    "wrapped": "packing: true, packing_strategy: wrapped",
    "the whole text counts": "completion_only_loss: false",
    "answers of the assistant count": "assistant_only_loss: true",
}


@pytest.mark.parametrize("more", WAYS.values(), ids=list(WAYS))
def test_the_batches_are_the_same(tmp_path: Path, more: str) -> None:
    model, data = make_tiny_model(tmp_path / "model"), write_rows(tmp_path / "rows.jsonl")
    run = new_run(tmp_path, RECIPE.format(model=model, data=data, more=more))
    trainer = build(load_recipe(run.recipe, base=tmp_path), run).trainer
    lists = batches(trainer)
    rows_as_arrays(trainer)
    assert trainer.train_dataset.format["type"] == "numpy"
    arrays = batches(trainer)
    assert len(lists) == len(arrays) > 2
    for one, other in zip(lists, arrays):
        assert one.keys() == other.keys()
        for name, value in one.items():
            same = torch.equal(value, other[name]) and value.dtype == other[name].dtype if torch.is_tensor(value) else value == other[name]
            assert same, name


def batches(trainer: Any) -> list[dict[str, Any]]:
    torch.manual_seed(3)  # of the order of the rows
    return list(trainer.get_train_dataloader())
