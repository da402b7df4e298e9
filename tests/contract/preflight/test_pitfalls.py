"""The pitfalls that every fine-tuning handbook warns of, each as a recipe, and the finding that its writer gets."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.support.planted import CARD, check, check_early, plant, turns
from tuitune.preflight.cards import Card

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
SMALL = Card("a card of 80 kB", 80_000, (8, 9), named=True)  # to the tiny model what 4 GiB are to one of 7B


@pytest.mark.parametrize(
    ("pitfall", "id", "severity", "card", "sections"),
    [
        ("a learning rate for LoRA on all weights", "TRN08", "warning", CARD, {"peft": None, "training": {"learning_rate": 2e-4}}),
        ("a learning rate for all weights on LoRA", "TRN08", "warning", CARD, {"training": {"learning_rate": 5e-6}}),
        ("full precision by accident", "TRN13", "info", CARD, {"load": {"dtype": "float32"}}),
        ("4 bits with the defaults", "QNT01", "warning", CARD, {"quantization": {"load_in_4bit": True}}),
        ("out of memory: the weights alone do not fit", "QNT06", "error", SMALL, {"quantization": NF4}),
        ("out of memory: float32 beside 4 bits", "QNT04", "warning", CARD, {"quantization": NF4, "load": {"dtype": "float32"}}),
        ("an old name of max_length", "TRN03", "error", CARD, {"training": {"max_seq_length": 2048}}),
        ("a target that is a pattern", "PEFT01", "error", CARD, {"peft": {"target_modules": "q_proj"}}),
    ],
)
def test_a_pitfall_is_told(
    tmp_path: Path, tiny_model: Path, pitfall: str, id: str, severity: str, card: Card, sections: dict[str, Any]
) -> None:
    look = check if id == "PEFT01" else check_early
    found = look(plant(tmp_path, model=tiny_model, **sections).recipe, card).findings
    assert (id, severity) in {(one.id, one.severity) for one in found}, pitfall


def test_tokens_without_rows_are_told_when_the_resize_was_forgotten(tmp_path: Path, tiny_model: Path) -> None:
    def cut(model: Path) -> None:
        weights = load_file(model / "model.safetensors")
        weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:300].clone()
        save_file(weights, model / "model.safetensors", metadata={"format": "pt"})

    rows = [turns(f"the cat sat {n}", f"and the dog ran {n}") for n in range(24)]
    found = check(plant(tmp_path, model=tiny_model, rows=rows, change=cut).recipe).findings
    assert {"TOK01", "EMB01"} <= {one.id for one in found if one.severity == "error"}


def told(recipe: Path) -> dict[str, str]:
    """id → severity of what is found."""
    return {one.id: one.severity for one in check(recipe).findings}


def test_padding_with_the_end_token_is_told_and_no_alarm_under_trl(tmp_path: Path, tiny_model: Path) -> None:
    assert told(plant(tmp_path, model=tiny_model, tokenizer={"pad_token": "<|im_end|>"}).recipe)["TOK04"] == "info"


def test_the_template_of_another_family_is_told_by_its_markers(tmp_path: Path, tiny_model: Path) -> None:
    llama = (
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    )
    tmp_path.joinpath("llama3.jinja").write_text(llama)
    found = told(plant(tmp_path, model=tiny_model, tokenizer={"chat_template": "./llama3.jinja"}).recipe)
    assert found["TPL13"] == "warning"  # <|eot_id|> is seven tokens here
    assert "TPL04" in found  # and the model never learns its own end


def test_narrow_data_is_told(tmp_path: Path, tiny_model: Path) -> None:
    rows = [
        turns(f"What is the long answer to question {n % 3} of this exam, please?", "I cannot help with that request today.")
        for n in range(60)
    ]
    found = told(plant(tmp_path, model=tiny_model, rows=rows).recipe)
    assert found["DAT15"] == "warning"  # 60 rows, three of them different
    assert found["DAT18"] == "warning"  # and one answer
