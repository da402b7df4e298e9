"""What is counted on a model without memory: beside formulas, beside an H200, and for families that have neither."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
import transformers

from tests.bench.vram import write_recipe
from tests.contract.test_memory_shapes import OWN, SIZES
from tests.support.model_shapes import CONFIGS
from tests.unit.memory.test_own_measurements import GROWING, as_it_ran
from tuitune.analyst.meta_memory.model import bare_model, parts_of, quantise
from tuitune.analyst.meta_memory.run import count
from tuitune.errors import UserError
from tuitune.memory.activations import masked
from tuitune.memory.families import FAMILIES, read_shape
from tuitune.memory.measured import as_json, way_of
from tuitune.memory.plan import Plan, plan
from tuitune.memory.settings import MIB, Device, Settings
from tuitune.memory.shape import Shape
from tuitune.memory.static import model_bytes, trained_parameters
from tuitune.memory.unknown import shape_of
from tuitune.planning import read_recipe
from tuitune.preflight.cards import parse_card

LORA = Settings(length=1024, batch=4)
QLORA = replace(LORA, weights="nf4 double")
HALF_ADAPTERS = replace(LORA, adapter_bytes=2, dropout=0.05)
FULL = replace(LORA, lora=False, weights="float32")
UNKNOWN: dict[str, dict[str, Any]] = {
    "cohere2": {**SIZES, "sliding_window": 4096, "tie_word_embeddings": True},
    "bloom": {"hidden_size": 512, "n_head": 8, "n_layer": 4, "vocab_size": 1024, "hidden_dropout": 0.1},
    "deepseek_v3": {
        **SIZES,
        **{
            "num_hidden_layers": 4,
            "first_k_dense_replace": 1,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
        },
        **{"q_lora_rank": 64, "kv_lora_rank": 64, "qk_rope_head_dim": 32, "qk_nope_head_dim": 32, "v_head_dim": 64},
        **{"num_key_value_heads": 8, "moe_intermediate_size": 256, "tie_word_embeddings": False},
    },
}


def counted(config: dict[str, Any], settings: Settings, folder: Path, shape: Shape | None = None) -> Shape:
    """The shape of a config, as the analyst counts it for one way of training, through JSON and back."""
    (folder / "config.json").write_text(json.dumps(config))
    way = way_of(settings, settings.padded if shape is None else masked(shape, settings))
    return shape_of(json.loads(json.dumps(count(lambda text: None, folder=str(folder), ways=as_json([way])))))


def small(family: str, **more: Any) -> dict[str, Any]:
    config: dict[str, Any] = transformers.AutoConfig.for_model(family, **{**SIZES, **OWN.get(family, {}), **more}).to_dict()
    return config


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", QLORA),
        ("qwen3", HALF_ADAPTERS),
        ("qwen2", replace(LORA, input_casts=False)),
        ("mixtral", replace(LORA, input_casts=False)),
        ("gemma3_text", replace(LORA, padded=True)),
        ("gpt2", LORA),
        ("mixtral", replace(LORA, targets=("q_proj", "v_proj"))),
        ("llama", FULL),
    ],
)
def test_a_family_with_a_formula_is_counted_as_the_formula_says(family: str, settings: Settings, tmp_path: Path) -> None:
    config = small(family)
    formula = read_shape(config)
    found = counted(config, settings, tmp_path, formula)
    assert found.parameters == formula.parameters
    assert trained_parameters(found, settings) == trained_parameters(formula, settings)
    assert model_bytes(found, settings) == model_bytes(formula, settings)
    for every in (0, 1):
        ours, theirs = (plan(shape, replace(settings, checkpoint_every=every), Device()) for shape in (found, formula))
        assert ours.allocated == pytest.approx(theirs.allocated, rel=0.04)
        assert ours.phases["forward"] == pytest.approx(theirs.phases["forward"], rel=0.02)


@pytest.mark.parametrize("row", [row for row in GROWING if row["id"] in ("o03", "o05")], ids=lambda row: row["model"])
def test_a_family_taken_for_an_unknown_one_allocates_what_an_h200_measured(
    row: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIGS[row["model"]]))
    planned = read_recipe(write_recipe(as_it_ran(row), tmp_path / "model", tmp_path / "run", rows=2), parse_card("H200"))
    found = counted(CONFIGS[row["model"]], planned.settings, tmp_path, planned.shape)
    assert plan(found, planned.settings, Device()).allocated / MIB == pytest.approx(row["peak_alloc"], rel=0.03)


@pytest.mark.parametrize("family", UNKNOWN)
def test_a_family_without_a_formula_gets_a_plan(family: str, tmp_path: Path) -> None:
    assert family not in FAMILIES
    config = transformers.AutoConfig.for_model(family, **UNKNOWN[family])
    settings = replace(QLORA, checkpoint_every=0)
    found = counted(config.to_dict(), settings, tmp_path)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.layers == config.num_hidden_layers
    free, checkpointed = (plan(found, replace(settings, checkpoint_every=every), Device()) for every in (0, 1))
    assert free.allocated > checkpointed.allocated > model_bytes(found, settings) > 0
    longer = plan(found, replace(settings, length=2048), Device())
    grown = kept(longer) / kept(free)
    assert grown > 2.5 if family == "bloom" else grown == pytest.approx(2, rel=0.02)  # bloom's attention is written out: length²


def kept(made: Plan) -> int:
    return next(one.bytes for one in made.of_phase("forward") if one.name == "activations")


def test_the_layers_that_are_counted_in_4_bits_are_those_that_transformers_loads_so(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("cohere2", **UNKNOWN["cohere2"])
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(tmp_path)
    four_bits = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=four_bits, device_map="cpu")
    theirs = {name for name, module in loaded.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)}
    bare = bare_model(tmp_path, torch.bfloat16)
    assert set(parts_of(bare).linears) == theirs
    assert loaded.is_loaded_in_4bit
    quantise(bare)
    assert bare.is_loaded_in_4bit
    assert {name for name, module in bare.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)} == theirs


def test_a_class_that_transformers_does_not_have_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"transformers 5[.\d]+ cannot make this model from its config"):
        counted({"model_type": "nobody", "auto_map": {"AutoConfig": "configuration_nobody.Nobody"}}, LORA, tmp_path)
