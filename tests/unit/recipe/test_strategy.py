"""launch.strategy: what does not go together with it is said before anything is started."""

from typing import Any

import pytest

from tuitune.recipe.strategy import gpus_of, objections, strategy_of

FOUR_BIT = {"load_in_4bit": True}


def recipe(strategy: str, **sections: Any) -> dict[str, Any]:
    return {"task": "sft", "launch": {"strategy": strategy, "gpus": 2}, **sections}


def test_a_copy_on_each_is_what_nobody_need_ask_for() -> None:
    assert strategy_of({}) == "ddp"
    assert list(objections({"task": "kto", "training": {"optim": "paged_adamw_8bit"}})) == []


@pytest.mark.parametrize("gpus", ["auto", 1, None])
def test_one_gpu_has_nobody_to_share_with(gpus: object) -> None:
    (path, message), *more = objections(recipe("fsdp", launch={"strategy": "fsdp", "gpus": gpus}))
    assert (path, more) == (("launch", "strategy"), [])
    assert "launch.gpus" in message


@pytest.mark.parametrize(
    ("sections", "path"),
    [
        ({"training": {"optim": "paged_adamw_8bit"}}, ("training", "optim")),
        ({"task": "kto"}, ("launch", "strategy")),
        ({"tokenizer": {"add_special_tokens": ["<new>"]}}, ("tokenizer", "add_special_tokens")),
        ({"peft": {"init_lora_weights": "pissa_niter_4"}}, ("peft", "init_lora_weights")),
        ({"quantization": {"load_in_8bit": True}}, ("quantization", "load_in_8bit")),
        ({"quantization": {**FOUR_BIT, "bnb_4bit_quant_storage": "uint8"}}, ("quantization", "bnb_4bit_quant_storage")),
        ({"quantization": {**FOUR_BIT, "bnb_4bit_compute_dtype": "float16"}}, ("quantization", "bnb_4bit_compute_dtype")),
    ],
)
def test_fsdp_says_what_it_cannot_spread(sections: dict[str, Any], path: tuple[str, str]) -> None:
    assert [where for where, _ in objections(recipe("fsdp", **sections))] == [path]


def test_fsdp_spreads_4_bit_weights_that_are_stored_as_it_computes() -> None:
    assert list(objections(recipe("fsdp", quantization={**FOUR_BIT, "bnb_4bit_quant_storage": "bfloat16"}))) == []
    assert [where for where, _ in objections(recipe("deepspeed", quantization=FOUR_BIT))] == [("quantization", "load_in_4bit")]


def test_a_recipe_that_is_wrong_elsewhere_is_no_crash() -> None:
    wrong: dict[str, Any] = {"task": 3, "training": 7, "quantization": [], "tokenizer": None}
    assert [where for where, _ in objections(recipe("fsdp", **wrong))] == [("launch", "strategy")]


@pytest.mark.parametrize(("written", "count"), [(2, 2), ("8", 8), ("auto", 1), ("cpu", 1), (0, 1), ("²", 1)])
def test_gpus(written: object, count: int) -> None:
    assert gpus_of({"gpus": written}) == count
