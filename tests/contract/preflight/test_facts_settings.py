"""What the installed libraries do, as far as the checks of adapter, quantisation and settings lean on it."""

import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
import trl
from peft.tuners.tuners_utils import check_target_module_exists

from tests.support.versions import newer_transformers


def meta(config: Any, **arguments: Any) -> Any:
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config, **arguments)


@pytest.fixture
def config(tiny_model: Path) -> Any:
    return transformers.AutoConfig.from_pretrained(tiny_model)


def arguments(**written: Any) -> Any:
    return trl.SFTConfig(output_dir="/nowhere", use_cpu=True, **{"bf16": False, **written})


@pytest.mark.parametrize(
    ("targets", "name", "matches"),
    [
        ("q_proj", "model.layers.0.self_attn.q_proj", False),
        (".*q_proj", "model.layers.0.self_attn.q_proj", True),
        (["q_proj"], "model.layers.0.self_attn.q_proj", True),
        (["proj"], "model.layers.0.self_attn.q_proj", False),
    ],
)
def test_a_string_is_a_pattern_for_the_whole_name_and_a_list_of_ends(targets: Any, name: str, matches: bool) -> None:
    assert bool(check_target_module_exists(peft.LoraConfig(target_modules=targets), name)) is matches


def test_peft_takes_a_module_to_save_that_does_not_exist_without_a_word(config: Any) -> None:
    with warnings.catch_warnings(record=True) as said, torch.device("meta"):
        warnings.simplefilter("always")
        peft.get_peft_model(meta(config), peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["embed_token"]))
    assert not [str(one.message) for one in said if "embed_token" in str(one.message)]


def test_all_linear_leaves_the_head_out(config: Any) -> None:
    with torch.device("meta"):
        wrapped = peft.get_peft_model(meta(config), peft.LoraConfig(target_modules="all-linear"))
    assert "lm_head" not in wrapped.base_model.targeted_module_names
    assert len(wrapped.base_model.targeted_module_names) == 14


def test_nothing_is_allocated_on_the_meta_device(config: Any) -> None:
    with torch.device("meta"):
        wrapped = peft.get_peft_model(meta(config), peft.LoraConfig(target_modules="all-linear"))
    assert {weight.device.type for weight in wrapped.parameters()} == {"meta"}


def test_a_4_bit_config_alone_is_fp4_with_float32(config: Any) -> None:
    alone = transformers.BitsAndBytesConfig(load_in_4bit=True)
    assert (alone.bnb_4bit_quant_type, alone.bnb_4bit_compute_dtype) == ("fp4", torch.float32)


def test_numbers_that_make_no_step_are_accepted() -> None:
    assert arguments(per_device_train_batch_size=0, gradient_accumulation_steps=0, num_train_epochs=0, learning_rate=2.0).learning_rate == 2


@pytest.mark.parametrize(("written", "steps"), [(1.5, 1), (0.1, 10), (30, 30), (0.001, 1)])
def test_warm_up_below_1_is_a_share_and_above_it_a_count(written: float, steps: int) -> None:
    assert arguments(warmup_steps=written).get_warmup_steps(100) == steps


@pytest.mark.parametrize(
    "written",
    [
        {"eval_strategy": "no", "save_strategy": "steps"},
        {"eval_strategy": "epoch", "save_strategy": "steps"},
        {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 10, "save_steps": 25},
    ],
)
def test_the_best_checkpoint_needs_evaluation_at_the_same_steps(written: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="load_best_model_at_end"):
        arguments(load_best_model_at_end=True, **written)


@pytest.mark.parametrize(
    "written",
    [
        {"eval_strategy": "steps", "save_strategy": "best", "eval_steps": 10},
        {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 0.1, "save_steps": 0.2},
    ],
)
def test_the_best_checkpoint_may_be_saved_by_itself_or_in_shares(written: dict[str, Any]) -> None:
    assert arguments(load_best_model_at_end=True, **written).load_best_model_at_end


def test_bf16_and_fp16_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="one"):
        arguments(bf16=True, fp16=True)


@pytest.mark.parametrize("architecture", [pytest.param("gemma2", marks=newer_transformers), "bloom"])
def test_a_class_without_sdpa_refuses_it_and_takes_eager_unasked(architecture: str) -> None:
    small = transformers.AutoConfig.for_model(architecture, vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    with pytest.raises(ValueError, match="scaled_dot_product_attention"):
        meta(small, attn_implementation="sdpa")
    fresh = transformers.AutoConfig.for_model(architecture, vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    assert meta(fresh)._supports_sdpa is False
    assert meta(fresh).config._attn_implementation == "eager"


def test_sdpa_is_taken_unasked_where_the_class_has_it(config: Any) -> None:
    assert meta(config).config._attn_implementation == "sdpa"


def test_packing_and_lengths_have_the_defaults_that_the_checks_assume() -> None:
    assert arguments(packing=True).packing_strategy == "bfd"
    assert arguments().max_length == 1024
