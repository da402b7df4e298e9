"""Attention over rows joined without padding: what transformers, TRL's collator and torch do with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tuitune.trainer import varlen
from tuitune.trainer.box import JOINABLE

LENGTHS = (7, 1, 30, 12)
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 256,
}
WINDOW = {"sliding_window": 8}
FAMILIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, {}),
    "qwen2": (transformers.Qwen2Config, {}),
    "qwen3": (transformers.Qwen3Config, {"head_dim": 16}),
    "qwen3_moe": (transformers.Qwen3MoeConfig, {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
    "mistral": (transformers.MistralConfig, WINDOW),
    "mixtral": (transformers.MixtralConfig, {"num_local_experts": 4}),
    "gemma3_text": (transformers.Gemma3TextConfig, {**WINDOW, "head_dim": 16, "layer_types": ["sliding_attention", "full_attention"]}),
    "phi3": (transformers.Phi3Config, {"pad_token_id": 0}),
    "olmo2": (transformers.Olmo2Config, {}),
    "smollm3": (transformers.SmolLM3Config, {"pad_token_id": 0}),
    "granite": (transformers.GraniteConfig, {"attention_multiplier": 0.3}),
}


def test_each_family_that_is_joined_is_proven_here() -> None:
    assert set(FAMILIES) == set(JOINABLE)


def model_of(family: str, attention: str) -> Any:
    config_class, more = FAMILIES[family]
    torch.manual_seed(0)
    config = config_class(**SIZES, **more)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)


def rows() -> list[dict[str, list[int]]]:
    torch.manual_seed(1)
    return [{"input_ids": torch.randint(5, 128, (length,)).tolist()} for length in LENGTHS]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_row_gets_the_logits_that_it_gets_alone(family: str) -> None:
    """In float32 within 1e-5 (issue G, "Done when" 2)."""
    model = model_of(family, varlen.NAME)
    alone = model_of(family, "eager")
    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)(rows())
    batch.pop("labels")
    with torch.no_grad():
        together = model(**batch).logits[0]
        each = [alone(input_ids=torch.tensor([row["input_ids"]])).logits[0] for row in rows()]
    assert (together - torch.cat(each)).abs().max() < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("family", FAMILIES)
def test_so_it_is_with_the_gpus_own_kernel(family: str) -> None:
    """In bfloat16 within 1e-2 of the row alone, and the gradients of a joined batch are those of its rows (issue G, "Done when" 2)."""
    model, alone = (model_of(family, kind).to("cuda", torch.bfloat16) for kind in (varlen.NAME, "eager"))
    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)(rows())
    batch = {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in batch.items() if name != "labels"}
    together = model(**batch).logits[0]
    each = torch.cat([alone(input_ids=torch.tensor([row["input_ids"]]).cuda()).logits[0] for row in rows()])
    assert (together - each).abs().max() < 1e-2
    for logits in (together, each):
        logits.float().square().mean().backward()
    norms = [sum(p.grad.float().square().sum() for p in one.parameters() if p.grad is not None).sqrt() for one in (model, alone)]
    assert norms[0].item() == pytest.approx(norms[1].item(), rel=0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_padded_rows_and_generation_go_through_sdpa(family: str) -> None:
    one, other = model_of(family, varlen.NAME), model_of(family, "sdpa")
    ids = torch.tensor([[0, 0, 9, 8, 7], [6, 5, 9, 8, 7]])
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": ids.ne(0).long(), "max_new_tokens": 12, "do_sample": False}
    assert one.generate(**given, pad_token_id=0).tolist() == other.generate(**given, pad_token_id=0).tolist()
    with torch.no_grad():
        masked = [model(input_ids=ids, attention_mask=ids.ne(0).long()).logits[1] for model in (one, other)]
        plain = [model(input_ids=ids[1:]).logits for model in (one, other)]
    assert torch.equal(*masked)
    assert torch.equal(*plain)


def test_a_model_takes_it_after_it_was_loaded(tmp_path: Path) -> None:
    model_of("llama", "sdpa").save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    loaded.set_attn_implementation(varlen.NAME)
    assert loaded.config._attn_implementation == varlen.NAME


def test_what_the_kernel_leaves_out_is_refused() -> None:
    query = torch.zeros(1, 1, 4, 8)
    with pytest.raises(NotImplementedError, match="softcap"):
        varlen.attention(torch.nn.Identity(), query, query, query, None, softcap=50.0, cu_seq_lens_q=torch.tensor([0, 4]))
