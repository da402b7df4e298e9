"""Checks of the adapter: each fault is found, its repair takes it away, sound neighbours raise no alarm."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.support.planted import alarms, check, check_early, finding, ids, plant
from tests.support.short_training import train_steps
from tuitune.errors import UserError
from tuitune.preflight.repair import apply_fixes
from tuitune.preflight.report import fix

BOTH = {"modules_to_save": ["embed_tokens", "lm_head"]}


def untie(model: Path) -> None:
    """An output head of its own."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    weights = load_file(model / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("id", "severity", "peft", "change"),
    [
        ("PEFT01", "error", {"target_modules": "q_proj"}, None),
        ("PEFT01", "error", {"target_modules": ["query", "value"]}, None),
        ("PEFT01", "error", {"target_modules": ["norm"]}, None),
        ("PEFT01", "error", {"target_modules": "(("}, None),
        ("PEFT01", "warning", {"target_modules": ["q_proj", "v_prj"]}, None),
        ("PEFT06", "warning", {"modules_to_save": ["embed_token"]}, None),
        ("PEFT06", "warning", {"exclude_modules": ["q_prj"]}, None),
        ("PEFT06", "warning", {"rank_pattern": {"q_prj": 4}}, None),
        ("PEFT06", "warning", {"alpha_pattern": {"layers.7.self_attn.q_proj": 4}}, None),
        ("PEFT06", "error", {"target_modules": ["q_proj"], "layers_to_transform": [0, 7]}, None),
        ("PEFT06", "error", {"target_modules": ["q_proj"], "layers_to_transform": [7]}, None),
        ("PEFT07", "info", {"r": 32, "lora_alpha": 64}, None),
    ],
)
def test_what_does_not_fit_the_model_is_found(
    tmp_path: Path, tiny_model: Path, id: str, severity: str, peft: dict[str, Any], change: Callable[[Path], None] | None
) -> None:
    place = plant(tmp_path, model=tiny_model, peft=peft, change=change)
    report = check(place.recipe)
    assert (id, severity) in {(found.id, found.severity) for found in report.findings}
    assert {found.id for found in report.findings if found.severity != "info"} <= {id}
    repairs = [found.fix for found in report.findings if found.id == id and found.fix]
    if severity != "info":
        apply_fixes(place.recipe, report.text, repairs)
        assert alarms(check(place.recipe)) == []


@pytest.mark.parametrize(
    ("id", "severity", "peft", "change"),
    [
        ("PEFT02", "error", {"target_modules": ["q_proj", "lm_head"]}, None),
        ("PEFT02", "error", {"target_modules": ".*"}, None),
        ("PEFT03", "warning", {"modules_to_save": ["embed_tokens"]}, None),
        ("PEFT03", "warning", {"modules_to_save": ["lm_head"]}, None),
        ("PEFT03", "warning", BOTH, None),
        ("PEFT03", "warning", {"target_modules": ["q_proj", "embed_tokens"]}, None),
        ("PEFT04", "error", {"trainable_token_indices": [5]}, None),
        ("PEFT04", "error", {"trainable_token_indices": {"embed_tokens": [5]}}, None),
        ("PEFT04", "error", {"trainable_token_indices": {"lm_head": [5]}}, untie),
        ("PEFT07", "warning", {"r": 64, "lora_alpha": 8}, None),
        ("PEFT07", "warning", {"r": 8, "lora_alpha": 256}, None),
        ("PEFT07", "warning", {"r": 64, "lora_alpha": 128, "use_rslora": True}, None),
        ("PEFT07", "error", {"r": 0}, None),
        ("PEFT10", "error", {"lora_dropout": 0.1, "target_parameters": ["mlp.experts.gate_up_proj"]}, None),
        ("PEFT10", "info", {"lora_dropout": 0.1}, None),
        ("PEFT11", "error", {"inference_mode": True}, None),
        ("PEFT11", "warning", {"task_type": "SEQ_CLS"}, None),
    ],
)
def test_a_configuration_that_fails_or_mistrains_is_found_from_document_and_headers(
    tmp_path: Path, tiny_model: Path, id: str, severity: str, peft: dict[str, Any], change: Callable[[Path], None] | None
) -> None:
    place = plant(tmp_path, model=tiny_model, peft=peft, change=change)
    report = check_early(place.recipe)
    found = finding(report, id)
    assert (found.severity, found.where.file) == (severity, str(place.recipe))
    assert found.where.key.startswith("peft.")
    assert found.fix is not None
    apply_fixes(place.recipe, report.text, [found.fix])
    assert ids(check_early(place.recipe)) == set()


@pytest.mark.parametrize(
    ("peft", "change"),
    [
        ({"target_modules": ".*q_proj"}, None),
        ({"target_modules": ["self_attn.q_proj"]}, None),
        ({"target_modules": None}, None),
        ({**BOTH, "ensure_weight_tying": True}, None),
        (BOTH, untie),
        ({"trainable_token_indices": {"embed_tokens": [5]}}, untie),
        ({"rank_pattern": {"layers.0.self_attn.q_proj": 4}, "alpha_pattern": {"q_proj": 8}}, None),
        ({"r": 64, "lora_alpha": 16, "use_rslora": True}, None),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0], "exclude_modules": ["layers.1.self_attn.q_proj"]}, None),
        ({"modules_to_save": ["norm"]}, None),
    ],
)
def test_what_only_looks_like_a_fault_is_left_alone(
    tmp_path: Path, tiny_model: Path, peft: dict[str, Any], change: Callable[[Path], None] | None
) -> None:
    assert alarms(check(plant(tmp_path, model=tiny_model, peft=peft, change=change).recipe)) == []


def test_a_trainable_token_beyond_the_embedding_is_found(tmp_path: Path, tiny_model: Path) -> None:
    place = plant(tmp_path, model=tiny_model, peft={"trainable_token_indices": {"embed_tokens": [5, 500, -1]}}, change=untie)
    found = finding(check_early(place.recipe), "PEFT05")
    assert found.evidence == {"beyond": [-1, 500], "rows": 448}
    with pytest.raises((IndexError, UserError)):
        train_steps(place.recipe)


def test_the_trained_parameters_are_told_by_module(tmp_path: Path, tiny_model: Path) -> None:
    place = plant(tmp_path, model=tiny_model, peft={"target_modules": ["q_proj"], "modules_to_save": ["norm"]})
    found = finding(check(place.recipe), "PEFT12")
    norms = {"norm": 64, "input_layernorm": 128, "post_attention_layernorm": 128}  # peft takes every name that ends so
    assert found.evidence["by_module"] == {"q_proj": 2 * 8 * (64 + 64), **norms}
    trained = [weight.numel() for weight in train_steps(place.recipe, 1).trainer.model.parameters() if weight.requires_grad]
    assert found.evidence["trained"] == sum(trained)


@pytest.mark.parametrize(
    "peft",
    [
        {"target_modules": "q_proj"},
        {"target_modules": ["q_proj", "lm_head"]},
        {"trainable_token_indices": [5]},
    ],
)
def test_a_run_that_fails_trains_after_its_automatic_fix(tmp_path: Path, tiny_model: Path, peft: dict[str, Any]) -> None:
    place = plant(tmp_path, model=tiny_model, peft=peft)
    with pytest.raises((UserError, AttributeError)):
        train_steps(place.recipe)
    assert fix(place.recipe, check(place.recipe))
    assert len(train_steps(place.recipe).each("loss")) == 2


def test_a_head_torn_from_its_embedding_is_one_with_it_after_the_fix(tmp_path: Path, tiny_model: Path) -> None:
    place = plant(tmp_path, model=tiny_model, peft={"modules_to_save": ["embed_tokens"]})

    def same() -> bool:
        merged = train_steps(place.recipe).trainer.model.merge_and_unload()
        return bool((merged.get_input_embeddings().weight == merged.get_output_embeddings().weight).all())

    assert not same()
    assert fix(place.recipe, check_early(place.recipe))
    assert same()


def test_a_misspelt_module_to_save_is_trained_after_the_fix(tmp_path: Path, tiny_model: Path) -> None:
    place = plant(tmp_path, model=tiny_model, peft={"modules_to_save": ["nrm"]})

    def trained() -> bool:
        return any("norm.modules_to_save" in name for name, weight in train_steps(place.recipe).trainer.model.named_parameters())

    assert not trained()
    assert fix(place.recipe, check(place.recipe))
    assert trained()


@pytest.fixture
def adapter(tmp_path: Path, tiny_model: Path) -> Path:
    """The adapter of a short run on the tiny model."""
    (tmp_path / "first").mkdir()
    place = plant(tmp_path / "first", model=tiny_model)
    folder = tmp_path / "adapter"
    train_steps(place.recipe, 1).trainer.model.save_pretrained(folder)
    return folder


def continued(tmp_path: Path, model: Path, adapter: Path, change: Callable[[Path], object] | None = None) -> Any:
    (tmp_path / "second").mkdir()
    return plant(tmp_path / "second", model=model, load={"adapter": str(adapter)}, peft=None, change=change)


def narrower(model: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model, intermediate_size=96)
    AutoModelForCausalLM.from_config(config).save_pretrained(model)


def test_an_adapter_of_another_shape_is_found(tmp_path: Path, tiny_model: Path, adapter: Path) -> None:
    place = continued(tmp_path, tiny_model, adapter, narrower)
    found = finding(check_early(place.recipe), "PEFT08")
    assert found.severity == "error"
    assert found.evidence["base"] in ([96, 64], [64, 96])


def test_an_adapter_of_another_architecture_is_found(tmp_path: Path, tiny_model: Path, adapter: Path) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    renamed = {name.replace("model.layers", "transformer.h"): weight for name, weight in weights.items()}
    save_file(renamed, adapter / "adapter_model.safetensors")
    assert "nothing of it would be loaded" in finding(check_early(continued(tmp_path, tiny_model, adapter).recipe), "PEFT08").message


def test_the_adapters_own_model_is_left_alone(tmp_path: Path, tiny_model: Path, adapter: Path) -> None:
    report = check(continued(tmp_path, tiny_model, adapter).recipe)
    assert alarms(report) == []
    assert {"PEFT08", "PEFT09", "PEFT12"} <= set(report.ran)
    assert finding(report, "PEFT12").evidence["trained"] == 16384


def test_an_adapter_whose_new_rows_were_not_saved_is_found(tmp_path: Path, tiny_model: Path, adapter: Path) -> None:
    (adapter / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"id": 450, "content": "<new>"}]}))
    assert finding(check_early(continued(tmp_path, tiny_model, adapter).recipe), "PEFT09").evidence["largest_id"] == 450


def test_new_tokens_without_their_embeddings_in_modules_to_save_are_found(tmp_path: Path, tiny_model: Path) -> None:
    place = plant(tmp_path, model=tiny_model, peft={"modules_to_save": ["norm"]}, tokenizer={"add_special_tokens": ["<new>"]})
    assert "embed_tokens and lm_head" in finding(check_early(place.recipe), "PEFT09").message
    other = tmp_path / "clean"
    other.mkdir()
    saved = {**BOTH, "ensure_weight_tying": True}
    assert "PEFT09" not in ids(check_early(plant(other, model=tiny_model, peft=saved, tokenizer={"add_special_tokens": ["<new>"]}).recipe))


def test_names_of_hub_models_are_compared_without_how_their_weights_are_packed() -> None:
    from tuitune.preflight.adapter.earlier import _plain

    assert _plain("unsloth/Qwen2.5-7B-Instruct-unsloth-bnb-4bit") == _plain("Qwen/Qwen2.5-7B-Instruct")
    assert _plain("Qwen/Qwen2.5-7B") != _plain("Qwen/Qwen2.5-7B-Instruct")
