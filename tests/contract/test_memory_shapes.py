"""The plan's arithmetic against the installed transformers and peft: parameters, what layers keep, the peak of the backward pass."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import constants, try_to_load_from_cache

from tests.support.fake_training import LENGTH, ROWS, hold
from tuitune.memory import backward
from tuitune.memory.families import FAMILIES, read_shape
from tuitune.memory.settings import Settings
from tuitune.memory.static import trained_parameters
from tuitune.preflight.model_files import locate_model

B16, F32 = torch.bfloat16, torch.float32
LAYERS = 2
SIZES = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "num_hidden_layers": LAYERS,
    "vocab_size": 1024,
    "pad_token_id": 0,
    "sliding_window": None,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 4, "num_experts": 4, "moe_intermediate_size": 256}
OWN: dict[str, dict[str, Any]] = {
    "phi": {"num_key_value_heads": 8},
    "gpt2": {"n_embd": 512, "n_head": 8, "n_layer": LAYERS, "n_inner": 1536, "resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0},
    "mixtral": EXPERTS,
    "qwen3_moe": {**EXPERTS, "head_dim": 64},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 640},
    "olmoe": EXPERTS,
    "granitemoe": EXPERTS,
    **{name: {"head_dim": 64} for name in ("qwen3", "gemma")},
    **{name: {"head_dim": 64, "sliding_window": 4096} for name in ("gemma2", "gemma3_text")},
}


def compare(family: str, dtype: torch.dtype, adapter: torch.dtype | None, checkpointed: bool) -> tuple[dict[str, float], dict[str, float]]:
    """(planned, held): parameters and trained ones, and bytes a token kept and at the backward pass's peak."""
    config = transformers.AutoConfig.for_model(family, **SIZES | OWN.get(family, {}))
    shape = read_shape(config.to_dict())
    settings = Settings(
        length=LENGTH,
        batch=ROWS,
        lora=adapter is not None,
        weights="float32" if dtype == F32 else "bfloat16",
        adapter_bytes=4 if adapter == F32 else 2,
        checkpoint_every=int(checkpointed),
        loss="none",
    )
    kept = sum(backward.kept(shape, settings).values())
    peak = max(sum(parts.values()) for parts in backward.phases(shape, settings).values())
    if adapter is not None and not checkpointed:  # the embedding's output, which the stand-in makes a leaf
        kept, peak = (size + settings.weight_bytes * shape.hidden * settings.tokens for size in (kept, peak))
    held = hold(config, dtype=dtype, adapter=adapter, checkpointed=checkpointed)
    found = {"parameters": held.parameters, "kept": held.kept, "peak": held.peak, "trained": held.trained}
    planned = {"parameters": shape.parameters, "kept": kept, "peak": peak, "trained": trained_parameters(shape, settings)}
    if adapter is None:
        found["trained"] = planned["trained"]  # a model without head's loss still has the head's parameters
    return planned, found


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_keeps_what_the_plan_says_with_float32_adapters(family: str) -> None:
    planned, held = compare(family, B16, F32, checkpointed=False)
    assert planned["parameters"] == held["parameters"]
    assert planned["trained"] == held["trained"]
    assert planned["kept"] == pytest.approx(held["kept"], rel=0.01)
    assert planned["peak"] == pytest.approx(held["peak"], rel=0.04)


@pytest.mark.parametrize("family", ["granitemoe", "mixtral", "olmo2", "olmoe", "qwen2_moe", "starcoder2", "stablelm"])
def test_full_fine_tuning_in_16_bits_peaks_where_the_plan_says(family: str) -> None:
    planned, held = compare(family, B16, None, checkpointed=False)
    assert planned["kept"] == pytest.approx(held["kept"], rel=0.01)
    assert planned["peak"] == pytest.approx(held["peak"], rel=0.01)


@pytest.mark.parametrize("family", ["gemma3_text", "gpt2", "gpt_neox", "llama", "olmo2", "starcoder2", "stablelm"])
def test_full_fine_tuning_in_float32_peaks_where_the_plan_says(family: str) -> None:
    planned, held = compare(family, F32, None, checkpointed=True)
    assert planned["peak"] == pytest.approx(held["peak"], rel=0.05)


@pytest.mark.parametrize("family", ["granitemoe", "mixtral", "olmo2", "olmoe", "qwen2_moe"])
def test_checkpointed_layers_under_float32_adapters_peak_where_the_plan_says(family: str) -> None:
    planned, held = compare(family, B16, F32, checkpointed=True)
    assert planned["peak"] == pytest.approx(held["peak"], rel=0.04)


@pytest.mark.parametrize("family", ["gpt_neox", "granitemoe", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe", "stablelm", "starcoder2"])
def test_checkpointed_layers_under_16_bit_adapters_peak_where_the_plan_says(family: str) -> None:
    planned, held = compare(family, B16, B16, checkpointed=True)
    assert planned["peak"] == pytest.approx(held["peak"], rel=0.04)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize(
    ("dtype", "adapter", "checkpointed"), [(B16, None, False), (B16, None, True), (B16, B16, True), (B16, F32, True), (F32, F32, True)]
)
def test_each_way_of_training_peaks_where_the_plan_says(
    family: str, dtype: torch.dtype, adapter: torch.dtype | None, checkpointed: bool
) -> None:
    planned, held = compare(family, dtype, adapter, checkpointed)
    assert planned["peak"] == pytest.approx(held["peak"], rel=0.03)


def test_a_model_in_the_hub_s_cache_is_found_where_the_hub_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--org--name"
    for commit, branch in (("a" * 40, "main"), ("b" * 40, "v2")):
        (home / "snapshots" / commit).mkdir(parents=True)
        (home / "snapshots" / commit / "config.json").write_text("{}")
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / branch).write_text(commit)
    for revision in (None, "main", "v2", "b" * 40):
        theirs = try_to_load_from_cache("org/name", "config.json", cache_dir=tmp_path, revision=revision)
        assert isinstance(theirs, str)
        assert locate_model({"name_or_path": "org/name", "revision": revision}) == Path(theirs).parent
    assert locate_model({"name_or_path": "org/name", "revision": "v3"}) is None
    assert locate_model({"name_or_path": "org/other"}) is None
