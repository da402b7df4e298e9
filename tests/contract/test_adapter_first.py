"""The adapter's part before the last 4-bit product: the same numbers, and the product is not computed again (torch, peft, bitsandbytes)."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from tests.support.runs import new_run
from tests.support.tiny_model import make_tiny_model, write_rows
from tuitune.recipe.recipe import load_recipe
from tuitune.trainer.build import Built, build

pytest.importorskip("bitsandbytes")
RECIPE = """task: sft
model: {{name_or_path: {model}, dtype: bfloat16}}
quantization: {{load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: true, bnb_4bit_compute_dtype: bfloat16}}
peft: {{r: 4, lora_alpha: 8, lora_dropout: {dropout}, target_modules: all-linear}}
dataset: {{train: [{{path: {data}, columns: {{user: question, assistant: answer}}}}]}}
launch: {{gpus: cpu}}
training: {{max_steps: 3, learning_rate: 1.0e-3, per_device_train_batch_size: 4, max_length: 48, logging_steps: 1, save_strategy: 'no',
  bf16: true, activation_checkpointing: {again}}}
"""


def built(folder: Path, *, again: bool, dropout: float = 0.0, ours: bool = True) -> Built:
    folder.mkdir()
    model, data = make_tiny_model(folder / "model"), write_rows(folder / "rows.jsonl")
    run = new_run(folder, RECIPE.format(model=model, data=data, again=str(again).lower(), dropout=dropout))
    made = build(load_recipe(run.recipe, base=folder), run)
    for module in made.trainer.model.modules():
        if isinstance(module, LoraLayer) and not ours:
            vars(module).pop("forward", None)
    return made


def products(made: Built) -> tuple[Counter[str], list[float]]:
    """How often the base layers' products were computed, by name, and the losses of a training."""
    done: Counter[str] = Counter()

    def watch(name: str) -> Any:
        return lambda *about: done.update([name])

    for name, module in made.trainer.model.named_modules():
        if name.endswith(".base_layer"):
            module.register_forward_hook(watch(name.split(".")[-2]))
    made.trainer.train()
    return done, [entry["loss"] for entry in made.trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_last_product_of_a_layer_is_not_computed_again(tmp_path: Path, dropout: float) -> None:
    torch.set_num_threads(1)
    once, truth = products(built(tmp_path / "peft", again=True, dropout=dropout, ours=False))
    ours, losses = products(built(tmp_path / "ours", again=True, dropout=dropout))
    assert once["down_proj"] == once["gate_proj"] == ours["gate_proj"] == 2 * ours["down_proj"] > 0
    assert losses == truth


def test_without_recomputation_nothing_changes(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    ours, losses = products(built(tmp_path / "ours", again=False))
    assert ours["down_proj"] == ours["gate_proj"] > 0
    assert losses == products(built(tmp_path / "peft", again=False, ours=False))[1]


def test_without_the_adapter_and_outside_of_autocast_peft_s_own_pass_is_taken(tmp_path: Path) -> None:
    made = built(tmp_path / "run", again=True)
    model = made.trainer.model.eval()
    layer = next(module for name, module in model.named_modules() if name.endswith(".down_proj"))
    x = torch.randn(1, 3, layer.in_features, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        layer.lora_B["default"].weight.data.normal_()
        assert not torch.equal(layer(x), layer.base_layer(x))
        with made.trainer.model.disable_adapter():
            assert torch.equal(layer(x), layer.base_layer(x))
    layer.cast_input_dtype_enabled = True
    assert torch.equal(layer(x), type(layer).forward(layer, x))
