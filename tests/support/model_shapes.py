"""config.json of public models, as far as it decides their memory: the shapes that recorded measurements were made with."""

from typing import Any


def llama_like(hidden: int, width: int, layers: int, heads: int, kv_heads: int, vocab: int, **more: Any) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "tie_word_embeddings": False,
        **more,
    }


TIED = {"tie_word_embeddings": True}
QWEN2 = {"model_type": "qwen2"}
QWEN3 = {"model_type": "qwen3", "head_dim": 128}

CONFIGS: dict[str, dict[str, Any]] = {
    "smollm2-135m": llama_like(576, 1536, 30, 9, 3, 49_152, **TIED),
    "llama3.2-1b": llama_like(2048, 8192, 16, 32, 8, 128_256, head_dim=64, **TIED),
    "llama3.1-8b": llama_like(4096, 14_336, 32, 32, 8, 128_256),
    "mistral-7b": llama_like(4096, 14_336, 32, 32, 8, 32_768, model_type="mistral", sliding_window=None),
    "qwen2.5-0.5b": llama_like(896, 4864, 24, 14, 2, 151_936, **QWEN2, **TIED),
    "qwen2.5-1.5b": llama_like(1536, 8960, 28, 12, 2, 151_936, **QWEN2, **TIED),
    "qwen2.5-32b": llama_like(5120, 27_648, 64, 40, 8, 152_064, **QWEN2),
    "qwen3-4b": llama_like(2560, 9728, 36, 32, 8, 151_936, **QWEN3, **TIED),
    "qwen3-8b": llama_like(4096, 12_288, 36, 32, 8, 151_936, **QWEN3),
    "gemma2-2b": llama_like(
        2304, 9216, 26, 8, 4, 256_000, model_type="gemma2", head_dim=256, query_pre_attn_scalar=256, sliding_window=4096, **TIED
    ),
    "gemma3-1b": llama_like(
        1152, 6912, 26, 4, 1, 262_144, model_type="gemma3_text", head_dim=256, query_pre_attn_scalar=256, sliding_window=512, **TIED
    ),
    "phi3-mini": llama_like(3072, 8192, 32, 32, 32, 32_064, model_type="phi3", sliding_window=2047, pad_token_id=32_000),
    "phi-2": llama_like(2560, 10_240, 32, 32, 32, 51_200, model_type="phi", partial_rotary_factor=0.4, resid_pdrop=0.1),
    "pythia-1.4b": {
        "model_type": "gpt_neox",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "vocab_size": 50_304,
        "rotary_pct": 0.25,
        "tie_word_embeddings": False,
    },
    "gpt2-large": {"model_type": "gpt2", "n_embd": 1280, "n_layer": 36, "n_head": 20, "vocab_size": 50_257, "n_positions": 1024},
    "qwen3-moe-small": llama_like(
        2048,
        6144,
        12,
        32,
        4,
        151_936,
        model_type="qwen3_moe",
        head_dim=128,
        num_experts=64,
        num_experts_per_tok=8,
        moe_intermediate_size=768,
    ),
    "mixtral-small": llama_like(
        2048, 7168, 8, 32, 8, 32_000, model_type="mixtral", num_local_experts=8, num_experts_per_tok=2, sliding_window=None
    ),
}
