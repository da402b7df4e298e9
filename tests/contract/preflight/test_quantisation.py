"""Checks of the quantisation: each fault is found, its repair takes it away, sound neighbours raise no alarm."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.planted import CARD, alarms, assert_found_and_repaired, check_early, finding, ids, plant
from tests.support.short_training import train_steps
from tuitune.preflight.cards import CPU, Card, parse_card
from tuitune.preflight.report import fix

T4 = parse_card("T4")
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
HALF = {**NF4, "bnb_4bit_compute_dtype": "float16"}


@pytest.mark.parametrize(
    ("id", "severity", "card", "sections"),
    [
        ("QNT01", "warning", CARD, {"quantization": {"load_in_4bit": True}}),
        ("QNT01", "warning", CARD, {"quantization": {**NF4, "bnb_4bit_quant_type": "fp4"}}),
        ("QNT01", "warning", CARD, {"quantization": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}}),
        ("QNT01", "warning", T4, {"quantization": {"load_in_4bit": True}}),
        ("QNT01", "warning", CPU, {"quantization": {"load_in_4bit": True}}),
        ("QNT02", "warning", T4, {"quantization": NF4}),
        ("QNT03", "info", CARD, {"launch": {"adapter_dtype": "bfloat16"}, "training": {"learning_rate": 1e-5}}),
        ("QNT03", "info", CARD, {"quantization": NF4, "launch": {"adapter_dtype": "trl"}, "training": {"learning_rate": 1e-5}}),
        ("QNT04", "warning", CARD, {"quantization": NF4, "load": {"dtype": "float32"}}),
        ("QNT06", "warning", CARD, {"quantization": {"load_in_8bit": True, "llm_int8_enable_fp32_cpu_offload": True}}),
    ],
)
def test_a_planted_fault_is_found_and_its_repair_takes_it_away(
    tmp_path: Path, tiny_model: Path, id: str, severity: str, card: Card, sections: dict[str, Any]
) -> None:
    place = plant(tmp_path, model=tiny_model, **sections)
    assert_found_and_repaired(place, id, severity, card)


@pytest.mark.parametrize(
    ("card", "sections"),
    [
        (CARD, {"quantization": NF4}),
        (CARD, {"quantization": HALF}),
        (T4, {"quantization": HALF}),
        (CPU, {"quantization": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}}),
        (CPU, {"quantization": NF4, "load": {"dtype": "float32"}}),
        (CARD, {"quantization": {"load_in_8bit": True}}),
        (CARD, {"quantization": NF4, "launch": {"adapter_dtype": "trl"}, "training": {"learning_rate": 2e-4}}),
        (CARD, {"quantization": NF4, "launch": {"adapter_dtype": "float32"}, "training": {"learning_rate": 1e-5}}),
        (CARD, {"load": {"dtype": "bfloat16"}}),
    ],
)
def test_what_only_looks_like_a_fault_is_left_alone(tmp_path: Path, tiny_model: Path, card: Card, sections: dict[str, Any]) -> None:
    assert alarms(check_early(plant(tmp_path, model=tiny_model, **sections).recipe, card)) == []


def test_weights_that_do_not_fit_on_the_card_in_4_bits_are_found(tmp_path: Path, tiny_model: Path) -> None:
    place = plant(tmp_path, model=tiny_model, quantization=NF4)
    found = finding(check_early(place.recipe, Card("small", 90_000, (8, 9), named=True)), "QNT06")
    assert found.severity == "error"
    embedding, linear, norms = 448 * 64, 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128), 5 * 64
    assert found.evidence["bytes"] == int(linear * 0.52 + (embedding + norms) * 2)
    assert "QNT06" not in ids(check_early(place.recipe, Card("larger", 110_000, (8, 9), named=True)))


def test_a_base_that_is_quantised_as_it_is_gets_told_about_merging(tmp_path: Path, tiny_model: Path) -> None:
    def quantise(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        packed = {"quant_method": "bitsandbytes", "load_in_4bit": True}
        (model / "config.json").write_text(json.dumps({**config, "quantization_config": packed}))

    report = check_early(plant(tmp_path, model=tiny_model, change=quantise).recipe)
    assert finding(report, "QNT05").severity == "info"


def test_the_automatic_fix_brings_the_base_nearer_to_what_it_was(tmp_path: Path, tiny_model: Path) -> None:
    """fp4 is what bitsandbytes does unasked: the same training in nf4 has a base that is nearer to the unquantised one."""
    from bitsandbytes.functional import dequantize_4bit
    from safetensors.torch import load_file

    place = plant(tmp_path, model=tiny_model, quantization={"load_in_4bit": True})
    true = load_file(tiny_model / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]

    def error() -> float:
        steps = train_steps(place.recipe)
        assert len(steps.each("loss")) == 2
        weight = steps.trainer.model.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight
        return float((dequantize_4bit(weight.data, weight.quant_state).float() - true).pow(2).mean())

    before = error()
    assert fix(place.recipe, check_early(place.recipe))
    assert error() < 0.8 * before


def test_what_is_written_for_an_old_card_trains(tmp_path: Path, tiny_model: Path) -> None:
    """That bfloat16 fails or crawls on a T4 only a T4 can show; that its repair is a recipe which trains, the CPU can."""
    place = plant(tmp_path, model=tiny_model, quantization=NF4, training={"bf16": True})
    assert fix(place.recipe, check_early(place.recipe, T4))
    assert ids(check_early(place.recipe, T4)) == set()
    steps = train_steps(place.recipe)
    assert steps.trainer.args.fp16
    assert steps.trainer.model.get_base_model().config.quantization_config.bnb_4bit_compute_dtype == torch.float16
