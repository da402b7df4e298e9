"""A model's shape from its config.json: sizes that are public knowledge, names of layers, and what is not known."""

from typing import Any

import pytest

from tests.support.model_shapes import CONFIGS, llama_like
from tuitune.errors import UserError
from tuitune.memory.families import read_shape

PARAMETERS = {
    "smollm2-135m": 134_515_008,
    "llama3.2-1b": 1_235_814_400,
    "llama3.1-8b": 8_030_261_248,
    "mistral-7b": 7_248_023_552,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-32b": 32_763_876_352,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
}
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "vocab_size": 50_257, "n_positions": 1024}


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_models_have_their_published_number_of_parameters(name: str) -> None:
    assert read_shape(CONFIGS[name]).parameters == PARAMETERS[name]


def test_gpt2_has_its_124_million() -> None:
    assert read_shape(GPT2).parameters == 124_439_808


OLMO2_7B = llama_like(4096, 11_008, 32, 32, 32, 100_352, model_type="olmo2")
OLMOE_7B = llama_like(2048, 1024, 16, 16, 16, 50_304, model_type="olmoe", num_experts=64, num_experts_per_tok=8)
QWEN15_MOE = llama_like(
    *(2048, 5632, 24, 16, 16, 151_936),
    **{"model_type": "qwen2_moe", "num_experts": 60, "num_experts_per_tok": 4},
    **{"moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632},
)
STARCODER2_3B = llama_like(3072, 12_288, 30, 24, 2, 49_152, model_type="starcoder2", tie_word_embeddings=True, use_bias=True)
STABLELM2_1_6B = llama_like(2048, 5632, 24, 32, 32, 100_352, model_type="stablelm", use_qkv_bias=True)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        pytest.param(OLMO2_7B, 7_298_617_344, id="olmo2-7b"),
        pytest.param(OLMOE_7B, 6_919_161_856, id="olmoe-1b-7b"),
        pytest.param(QWEN15_MOE, 14_315_784_192, id="qwen1.5-moe-a2.7b"),
        pytest.param(STARCODER2_3B, 3_030_371_328, id="starcoder2-3b"),
        pytest.param(STABLELM2_1_6B, 1_644_515_328, id="stablelm-2-1.6b"),
    ],
)
def test_models_of_other_families_have_their_published_number_too(config: dict[str, Any], parameters: int) -> None:
    assert read_shape(config).parameters == parameters


def test_a_stablelm_with_norms_for_each_head_is_not_guessed_at() -> None:
    with pytest.raises(UserError, match="qk_layernorm"):
        read_shape({**STABLELM2_1_6B, "qk_layernorm": True})


def test_a_language_model_inside_a_multimodal_one_is_read_with_the_sizes_its_class_implies() -> None:
    inner = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10_240, "num_hidden_layers": 34}
    shape = read_shape({"model_type": "gemma3", "text_config": inner})
    assert (shape.family, shape.heads, shape.kv_heads, shape.head_dim, shape.vocab, shape.tied) == ("gemma3_text", 8, 4, 256, 262_208, True)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("all-linear", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
        (("v_proj", "mlp.up_proj"), ["v_proj", "up_proj"]),
        (None, ["q_proj", "v_proj"]),
        (r".*\.mlp\..*", ["gate_proj", "up_proj", "down_proj"]),
        (("proj",), []),
    ],
)
def test_target_modules_mean_what_they_mean_to_peft(wanted: Any, names: list[str]) -> None:
    assert [linear.name for linear in read_shape(CONFIGS["llama3.1-8b"]).targets(wanted)] == names


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "mamba2"}, "models of type mamba2"),
        ({}, "models of type unknown"),
        ({"model_type": "llama", "hidden_size": 64}, "lacks or garbles a size"),
        ({**CONFIGS["llama3.1-8b"], "num_attention_heads": "many"}, "lacks or garbles a size"),
    ],
)
def test_what_cannot_be_read_is_said(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_shape(config)


def test_a_regular_expression_that_is_none_is_said() -> None:
    with pytest.raises(UserError, match=r"target_modules: \(q_proj is no regular expression \(missing \)"):
        read_shape(CONFIGS["llama3.1-8b"]).targets("(q_proj")
