"""What a strategy puts into the trainer's arguments, and that a run which does not get it ends with a sentence."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuitune.errors import UserError
from tuitune.recipe.recipe import Recipe
from tuitune.trainer import strategy
from tuitune.trainer.box import Box

CUDA, CPU = Box(True, "H200", (9, 0)), Box(False, "CPU", (0, 0))


def recipe(launch: dict[str, Any], **sections: Any) -> Recipe:
    parts: dict[str, Any] = {"model": {}, "tokenizer": {}, "dataset": {}, "training": {}, "output": {}, "lines": {}}
    parts |= {"quantization": None, "peft": None, "watch": None, **sections}
    return Recipe(file=Path("recipe.yaml"), base=Path(), name="x", task="sft", launch=launch, **parts)


def test_one_process_looks_at_a_recipe_as_it_is() -> None:
    assert strategy.strategy_fill_ins(recipe({"strategy": "fsdp"}), 1) == {}
    assert strategy.strategy_fill_ins(recipe({}), 2) == {}


def test_full_fine_tuning_exchanges_gradients_at_every_micro_batch() -> None:
    filled = strategy.strategy_fill_ins(recipe({"strategy": "fsdp"}), 2)
    assert filled["accelerator_config"].value == {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    assert "accelerator_config" not in strategy.strategy_fill_ins(recipe({"strategy": "fsdp"}, peft={"r": 8}), 2)


def test_deepspeed_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install deepspeed"):
        strategy.strategy_fill_ins(recipe({"strategy": "deepspeed"}), 2)


def test_deepspeed_spreads_the_weights_where_all_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configuration is made and looked at; it has never run here, where the package is not."""
    monkeypatch.setattr(strategy, "find_spec", lambda _: object())
    full = strategy.strategy_fill_ins(recipe({"strategy": "deepspeed"}), 2)["deepspeed"].value
    lora = strategy.strategy_fill_ins(recipe({"strategy": "deepspeed"}, peft={"r": 8}), 2)["deepspeed"].value
    assert (full["zero_optimization"]["stage"], lora["zero_optimization"]["stage"]) == (3, 2)
    assert full["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"]
    assert full["gradient_accumulation_steps"] == full["gradient_clipping"] == "auto"


def test_a_model_that_is_spread_is_read_into_ram_but_for_4_bits() -> None:
    fsdp = {"strategy": "fsdp"}
    assert strategy.device_map(recipe({}), CUDA, 1) == {"device_map": {"": 1}}
    assert strategy.device_map(recipe(fsdp), CUDA, 1) == {}
    assert strategy.device_map(recipe(fsdp, quantization={"load_in_4bit": True}), CUDA, 1) == {"device_map": {"": 1}}
    assert strategy.device_map(recipe({}), CPU, 0) == {}


def test_fsdp_that_accelerate_leaves_out_without_a_word_ends_the_run() -> None:
    trainer = SimpleNamespace(is_fsdp_enabled=False, is_deepspeed_enabled=False, args=SimpleNamespace(world_size=2, use_cpu=True))
    with pytest.raises(UserError, match=r"2 on the CPU; set launch\.gpus: 4"):
        strategy.verify_strategy(recipe({"strategy": "fsdp", "gpus": 4}), trainer)
    strategy.verify_strategy(recipe({}), trainer)


@pytest.mark.parametrize(
    ("other", "left"),
    [
        ({}, True),
        ({"world": 1}, False),
        ({"family": "mixtral"}, False),
        ({"launch": {"strategy": "fsdp"}}, False),
        ({"peft": None}, False),
        ({"written": True}, False),
    ],
    ids=["two copies with an adapter", "one process", "experts may be idle", "no copies", "the whole model", "the recipe says it"],
)
def test_ddp_searches_no_graph_where_every_adapter_takes_part(other: dict[str, Any], left: bool) -> None:
    wanted = {"world": 2, "family": "llama", "launch": {}, "peft": {"r": 4}, "written": None, **other}
    args = SimpleNamespace(world_size=wanted["world"], ddp_find_unused_parameters=wanted["written"])
    trainer = SimpleNamespace(args=args, model=SimpleNamespace(config=SimpleNamespace(model_type=wanted["family"])))
    built: Any = SimpleNamespace(recipe=recipe(wanted["launch"], peft=wanted["peft"]), trainer=trainer, filled={})
    strategy.leave_search(built)
    assert args.ddp_find_unused_parameters is (False if left else wanted["written"])
    assert bool(built.filled) is left
