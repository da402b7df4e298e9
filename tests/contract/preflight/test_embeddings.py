"""EMB01 to EMB10: each fault that is planted is found, its clean twin is left alone, and a fix makes the finding go."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_faults import all_of, configs, in_json, row_of, sharded, tokenizer_config, untied, weights
from tests.support.planted import Place, alarms, check, finding, ids, plant, turns
from tuitune.preflight.cards import Card
from tuitune.preflight.finding import Change
from tuitune.preflight.repair import apply_fixes, change_recipe

EMBEDDING = "model.embed_tokens.weight"
LEARN_ROWS = {"modules_to_save": ["embed_tokens", "lm_head"]}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
MARKED = [turns(f"<|endoftext|> {number}?", f"it is {number}") for number in range(24)]


def drop(name: str) -> Any:
    return weights(lambda tensors: tensors.pop(name))


def cast(dtype: str) -> Any:
    def to(tensors: dict[str, Any]) -> None:
        import torch

        tensors.update({name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()})

    return weights(to)


def equal_head(tensors: dict[str, Any]) -> None:
    tensors["lm_head.weight"] = tensors[EMBEDDING].clone()


def other_head(tensors: dict[str, Any]) -> None:
    tensors["lm_head.weight"] = tensors[EMBEDDING] + 0.1


def cut_off(model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def pointer(name: str) -> Any:
    return lambda model: (model / name).write_bytes(LFS)


def without_shard(model: Path) -> None:
    sharded(model)
    (model / "model-00002-of-00002.safetensors").unlink()


def index_of_another(model: Path) -> None:
    sharded(model)
    index = json.loads((model / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.layers.7.mlp.up_proj.weight"] = "model-00001-of-00002.safetensors"
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def pickled(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def zeros(table: Any) -> Any:
    return table[0] * 0


def mean(table: Any) -> Any:
    return table.mean(0)


def tiny_norm(table: Any) -> Any:
    return table[2] * 0.01


def copy_of_zero(table: Any) -> Any:
    return table[0] * 1.001


END = [2]
FAULTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "config.json says another vocab_size": ("EMB01", "error", {"change": in_json("config.json", vocab_size=512)}),
    "no head in an untied model": ("EMB02", "error", {"change": in_json("config.json", tie_word_embeddings=False)}),
    "no head where the class does not tie": (
        "EMB02",
        "error",
        {"change": in_json("config.json", tie_word_embeddings=None)},
    ),
    "a tied model with another head": ("EMB03", "warning", {"change": weights(other_head)}),
    "a tied model with the same head": ("EMB03", "info", {"change": weights(equal_head)}),
    "the end of a turn is zeros": ("EMB04", "error", {"change": row_of(END, zeros)}),
    "the end of a turn is far shorter than others": ("EMB04", "error", {"change": row_of(END, tiny_norm)}),
    "the end of a turn is a copy of another special row": ("EMB04", "error", {"change": row_of(END, copy_of_zero)}),
    "the end of a turn is the mean of all rows": ("EMB04", "error", {"change": row_of(END, mean)}),
    "the head's row is zeros where there are two tables": (
        "EMB04",
        "error",
        {"change": all_of(untied, row_of(END, zeros, "lm_head.weight"))},
    ),
    "a token of the data is zeros": ("EMB04", "warning", {"change": row_of([0], zeros), "rows": MARKED}),
    "untrained markers that are trained now": (
        "EMB04",
        "warning",
        {"change": row_of(END, zeros), "peft": {**LEARN_ROWS, "ensure_weight_tying": True}},
    ),
    "an adapter that leaves untrained tokens frozen": ("EMB05", "error", {"change": row_of(END, zeros)}),
    "an adapter that trains one side of two": (
        "EMB05",
        "error",
        {"change": all_of(untied, row_of(END, zeros)), "peft": {"modules_to_save": ["embed_tokens"]}},
    ),
    "a used row is NaN": ("EMB06", "error", {"change": row_of(END, lambda table: table[0] * float("nan"))}),
    "an unused row of a head is infinite": ("EMB06", "error", {"change": row_of([440], lambda table: table[0] / 0)}),
    "an unused row of an input embedding is infinite": (
        "EMB06",
        "warning",
        {"change": all_of(untied, row_of([440], lambda table: table[0] / 0))},
    ),
    "a file that is cut off": ("EMB07", "error", {"change": cut_off}),
    "an LFS pointer instead of weights": ("EMB07", "error", {"change": pointer("model.safetensors")}),
    "a shard is missing": ("EMB07", "error", {"change": without_shard}),
    "an index of another revision": ("EMB07", "error", {"change": index_of_another}),
    "weights that are pickled": ("EMB07", "error", {"change": pickled}),
    "a weight is in no file": ("EMB08", "error", {"change": drop("model.norm.weight")}),
    "a weight has another shape": (
        "EMB08",
        "error",
        {"change": weights(lambda tensors: tensors.update({"model.norm.weight": tensors["model.norm.weight"][:32].clone()}))},
    ),
    "a tensor has no place": (
        "EMB08",
        "warning",
        {"change": weights(lambda tensors: tensors.update(extra=tensors["model.norm.weight"].clone()))},
    ),
    "bfloat16 weights are loaded in float16": ("EMB09", "warning", {"change": cast("bfloat16"), "dtype": "float16"}),
    "frozen 16-bit weights are loaded in float32": ("EMB09", "warning", {"change": cast("bfloat16"), "dtype": "float32"}),
    "config.json says float16 for bfloat16 weights": (
        "EMB09",
        "warning",
        {"change": all_of(cast("bfloat16"), in_json("config.json", dtype="float16"))},
    ),
    "another quantisation than the checkpoint's": (
        "EMB10",
        "error",
        {
            "change": in_json("config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
            "quantization": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"},
        },
    ),
    "full fine-tuning of a quantised checkpoint": (
        "EMB10",
        "error",
        {"change": in_json("config.json", quantization_config={"quant_method": "gptq", "bits": 4}), "peft": None},
    ),
}
CLEAN: dict[str, dict[str, Any]] = {
    "no head in a tied model": {},
    "two tables that are two": {"change": untied},
    "zeros in rows that nothing uses": {"change": row_of([0, 3, 330, 447], zeros)},
    "mean rows that nothing uses": {"change": row_of([3, 330, 331], mean)},
    "the padding row of an untied model, which is also the end, is zeros by construction": {
        "change": all_of(untied, tokenizer_config(pad_token="<|im_end|>"), configs(pad_token_id=2), row_of(END, zeros))
    },
    "shards with their index": {"change": sharded},
    "16-bit weights in the type that they are stored in": {
        "change": all_of(cast("bfloat16"), in_json("config.json", dtype="bfloat16")),
        "dtype": "bfloat16",
    },
    "float32 weights in float32": {"dtype": "float32"},
    "an adapter that trains both sides": {"peft": {**LEARN_ROWS, "ensure_weight_tying": True}},
    "full fine-tuning": {"peft": None, "training": {"learning_rate": 2e-5}},
}


def planted(folder: Path, model: Path, dtype: str | None = None, **workspace: Any) -> Place:
    """plant() with the tiny model, and model.dtype in the recipe."""
    place = plant(folder, model=model, **workspace)
    if dtype:
        place.recipe.write_text(change_recipe(place.recipe.read_text(), [Change(("model", "dtype"), dtype)]))
    return place


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, tmp_path: Path, tiny_model: Path) -> None:
    id, severity, workspace = FAULTS[name]
    report = check(planted(tmp_path, tiny_model, **workspace).recipe)
    found = [found for found in report.findings if found.id == id]
    assert [f.severity for f in found] == [severity], [(f.id, f.message) for f in report.findings]
    assert found[0].evidence
    assert found[0].where.file


@pytest.mark.parametrize("name", CLEAN)
def test_what_only_looks_like_a_fault_raises_no_alarm(name: str, tmp_path: Path, tiny_model: Path) -> None:
    report = check(planted(tmp_path, tiny_model, **CLEAN[name]).recipe)
    assert [alarm for alarm in alarms(report) if alarm.startswith(("EMB", "TOK", "PRE"))] == []
    assert "EMB08" in report.ran


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_become_trainable_by_the_fix(tied: bool, tmp_path: Path, tiny_model: Path) -> None:
    """EMB05 goes, EMB04 becomes a warning; what the recipe already saves stays."""
    change = row_of(END, zeros) if tied else all_of(untied, row_of(END, zeros))
    place = plant(tmp_path, model=tiny_model, change=change, peft={"modules_to_save": ["norm"]})
    report = check(place.recipe)
    fix = finding(report, "EMB05").fix
    assert fix is not None
    assert fix.automatic
    apply_fixes(place.recipe, report.text, [fix])
    again = check(place.recipe)
    assert "EMB05" not in ids(again)
    assert finding(again, "EMB04").severity == "warning"
    assert "- norm" in again.text or "[norm, embed_tokens, lm_head]" in again.text
    assert ("ensure_weight_tying: true" in again.text) == tied


def test_one_side_is_both_where_peft_ties_them(tmp_path: Path, tiny_model: Path) -> None:
    peft = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    assert "EMB05" not in ids(check(plant(tmp_path, model=tiny_model, change=row_of(END, zeros), peft=peft).recipe))


def test_the_fix_of_a_second_quantisation_leaves_the_checkpoints_own(tmp_path: Path, tiny_model: Path) -> None:
    gptq = in_json("config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    place = plant(tmp_path, model=tiny_model, change=gptq, quantization={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"})
    report = check(place.recipe)
    fix = finding(report, "EMB10").fix
    assert fix is not None
    assert not fix.automatic
    apply_fixes(place.recipe, report.text, [fix])
    assert "EMB10" not in ids(check(place.recipe))


def test_a_pointer_in_place_of_the_tokenizer_is_named(tmp_path: Path, tiny_model: Path) -> None:
    found = finding(check(plant(tmp_path, model=tiny_model, change=pointer("tokenizer.json")).recipe), "EMB07")
    assert "git lfs pull" in found.message
    assert found.evidence["file"].endswith("tokenizer.json")


def test_a_missing_shard_is_named_with_the_remedy(tmp_path: Path, tiny_model: Path) -> None:
    found = finding(check(plant(tmp_path, model=tiny_model, change=without_shard).recipe), "EMB07")
    assert found.message.startswith("model-00002-of-00002.safetensors is named in model.safetensors.index.json and missing: download it")


def test_float16_is_right_on_a_card_without_bfloat16(tmp_path: Path, tiny_model: Path) -> None:
    place = planted(tmp_path, tiny_model, change=cast("bfloat16"), dtype="float16")
    assert "EMB09" not in ids(check(place.recipe, Card("T4", 16 << 30, (7, 5), named=True)))


def test_a_head_that_the_class_ties_is_not_missed_when_the_config_is_silent(tmp_path: Path) -> None:
    """Gemma's config class ties; llama's does not, and then the missing head is a fault (above)."""
    from tests.support.small_models import make_small_model

    model = make_small_model(tmp_path / "small", "gemma")
    in_json("config.json", tie_word_embeddings=None)(model)
    from tuitune.preflight.model_files import ModelFiles

    assert ModelFiles(model).output_embedding is None
    assert ModelFiles(model).tied is True
