"""What an adapter reads is not cast to the type of its weights and back: peft's own switch, on the installed version."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from tests.support.runs import new_run
from tests.support.tiny_model import make_tiny_model, write_rows
from tuitune.recipe.recipe import load_recipe
from tuitune.trainer.build import Built, build

RECIPE = """task: {task}
model: {{name_or_path: {model}, dtype: bfloat16}}
peft: {{r: 4, lora_alpha: 8, lora_dropout: 0.0, target_modules: all-linear{peft}}}
dataset: {{train: [{{path: {data}, columns: {columns}}}]}}
launch: {{gpus: cpu{launch}}}
training: {{max_steps: 3, learning_rate: 1.0e-3, per_device_train_batch_size: 4, max_length: 48, logging_steps: 1,
  save_strategy: 'no', bf16: {bf16}}}
"""
COLUMNS = {
    "sft": "{user: question, assistant: answer}",
    "dpo": "{prompt: question, chosen: answer, rejected: question}",
    "kto": "{prompt: question, completion: answer, label: good}",
    "reward": "{prompt: question, chosen: answer, rejected: question}",
}


def built(folder: Path, task: str = "sft", launch: str = "", peft: str = "", bf16: str = "true") -> Built:
    folder.mkdir()
    model, data = make_tiny_model(folder / "model"), write_rows(folder / "rows.jsonl")
    if task == "kto":
        rows = data.read_text().splitlines()
        data.write_text("".join(f'{row[:-1]}, "good": {"true" if number % 2 else "false"}}}\n' for number, row in enumerate(rows)))
    text = RECIPE.format(task=task, model=model, data=data, columns=COLUMNS[task], launch=launch, peft=peft, bf16=bf16)
    run = new_run(folder, text)
    return build(load_recipe(run.recipe, base=folder), run)


def cast(made: Built) -> set[bool]:
    """Whether its adapters cast what they read."""
    return {module.cast_input_dtype_enabled for module in made.trainer.model.modules() if isinstance(module, LoraLayer)}


def losses(made: Built) -> list[float]:
    made.trainer.train()
    return [entry["loss"] for entry in made.trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("task", list(COLUMNS))
def test_the_losses_are_the_same_numbers(tmp_path: Path, task: str) -> None:
    """Autocast rounds the copy to what it was before: every task that is listed trains, and to the same bits."""
    plain, ours = built(tmp_path / "plain", task), built(tmp_path / "ours", task)
    assert cast(ours) == {False}
    for module in plain.trainer.model.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = True
    assert losses(ours) == losses(plain)


def test_the_adapters_are_float32_and_keep_no_copies_of_their_inputs(tmp_path: Path) -> None:
    made = built(tmp_path / "run")
    seen: dict[tuple[str, torch.dtype], int] = {}

    def look(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        seen[type(module).__name__, inputs[0].dtype] = 1

    for module in made.trainer.model.modules():
        if isinstance(module, LoraLayer):
            assert module.lora_A["default"].weight.dtype == torch.float32
            module.lora_A["default"].register_forward_pre_hook(look)
    made.trainer.train()
    assert seen == {("Linear", torch.bfloat16): 1}


@pytest.mark.parametrize(
    "why",
    [{"launch": ", adapter_dtype: trl"}, {"bf16": "false"}, {"peft": ", use_dora: true"}],
    ids=["as TRL and peft have it", "without autocast", "DoRA computes with the input in other ways too"],
)
def test_otherwise_they_cast_as_ever(tmp_path: Path, why: dict[str, str]) -> None:
    made = built(tmp_path / "run", **why)
    assert cast(made) == {True}
    assert len(losses(made)) == 3
