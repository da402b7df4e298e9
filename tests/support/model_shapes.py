"""config.json of public models, as far as it decides their memory: the shapes that recorded measurements were made with."""

from typing import Any


def _llama(hidden: int, width: int, layers: int, heads: int, kv_heads: int, vocab: int, **more: Any) -> dict[str, Any]:
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
    "smollm2-135m": _llama(576, 1536, 30, 9, 3, 49_152, **TIED),
    "llama3.2-1b": _llama(2048, 8192, 16, 32, 8, 128_256, head_dim=64, **TIED),
    "llama3.1-8b": _llama(4096, 14_336, 32, 32, 8, 128_256),
    "mistral-7b": _llama(4096, 14_336, 32, 32, 8, 32_768, model_type="mistral", sliding_window=None),
    "qwen2.5-0.5b": _llama(896, 4864, 24, 14, 2, 151_936, **QWEN2, **TIED),
    "qwen2.5-1.5b": _llama(1536, 8960, 28, 12, 2, 151_936, **QWEN2, **TIED),
    "qwen2.5-32b": _llama(5120, 27_648, 64, 40, 8, 152_064, **QWEN2),
    "qwen3-4b": _llama(2560, 9728, 36, 32, 8, 151_936, **QWEN3, **TIED),
    "qwen3-8b": _llama(4096, 12_288, 36, 32, 8, 151_936, **QWEN3),
}
