"""Shapes of models whose layers have one MLP, from their config.json (tuitune.memory.families says which family is built how)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tuitune.memory.shape import Linear, NoFormula, Shape, Source

Config = Mapping[str, Any]
QV = ("q_proj", "v_proj")


def _sizes(config: Config, head_dim: int | None = None) -> dict[str, Any]:
    """Sizes under the names that nearly all configs share; `head_dim`: the family's default where it does not follow from the others."""
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    return {
        "family": "",
        "hidden": hidden,
        "layers": int(config["num_hidden_layers"]),
        "heads": heads,
        "kv_heads": int(config.get("num_key_value_heads") or heads),
        "head_dim": int(config.get("head_dim") or head_dim or hidden // heads),
        "vocab": int(config["vocab_size"]),
        "mlp_width": int(config["intermediate_size"]),
    }


def _attention(sizes: Mapping[str, Any], bias: bool = False, output_bias: bool | None = None, output: str = "o_proj") -> tuple[Linear, ...]:
    """Separate query, key, value and output projections."""
    hidden, query, key = sizes["hidden"], sizes["heads"] * sizes["head_dim"], sizes["kv_heads"] * sizes["head_dim"]
    return (
        Linear("self_attn.q_proj", hidden, query, "attention norm", bias),
        Linear("self_attn.k_proj", hidden, key, "attention norm", bias),
        Linear("self_attn.v_proj", hidden, key, "attention norm", bias),
        Linear(f"self_attn.{output}", query, hidden, "attention", bias if output_bias is None else output_bias),
    )


def gated(hidden: int, width: int, bias: bool = False, at: str = "mlp") -> tuple[Linear, ...]:
    """Gate, up and down projection."""
    return (
        Linear(f"{at}.gate_proj", hidden, width, "mlp norm", bias),
        Linear(f"{at}.up_proj", hidden, width, "mlp norm", bias),
        Linear(f"{at}.down_proj", width, hidden, "mlp", bias),
    )


def _plain(hidden: int, width: int, names: tuple[str, str], source: Source = "mlp norm") -> tuple[Linear, ...]:
    """An MLP of two biased layers."""
    return Linear(names[0], hidden, width, source, True), Linear(names[1], width, hidden, "mlp", True)


def llama(config: Config, head_dim: int | None = None, bias: bool | None = None, output_bias: bool | None = None, **more: Any) -> Shape:
    """Llama and those that are built like it: RMS norms, rotary positions, a gated MLP."""
    sizes = _sizes(config, head_dim)
    biased = bool(config.get("attention_bias")) if bias is None else bias
    linears = _attention(sizes, biased, output_bias) + gated(sizes["hidden"], sizes["mlp_width"], bool(config.get("mlp_bias")))
    fields = {"tied": False, "default_targets": QV, "other": sizes["hidden"], "linears": linears, **more}
    return Shape(**sizes, **fields)


def mistral(config: Config) -> Shape:
    return llama(config, bias=False, window=config.get("sliding_window"))


def qwen2(config: Config) -> Shape:
    return llama(config, bias=True, output_bias=False, window=qwen_window(config))


def qwen3(config: Config) -> Shape:
    return llama(config, head_dim=128, qk_norm=True, window=qwen_window(config))


def qwen_window(config: Config) -> int | None:
    return config.get("sliding_window") if config.get("use_sliding_window") else None


def gemma(config: Config) -> Shape:
    return llama(config, head_dim=256, norm="gemma", tied=True)


def gemma2(config: Config) -> Shape:
    return llama(config, head_dim=256, norm="gemma", norms=4, post_norm=True, tied=True, window=config.get("sliding_window"))


def gemma3(config: Config) -> Shape:
    usual = {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 262_208,
    }  # Gemma3TextConfig's; published configs leave them out
    return replace(gemma2({**usual, **config}), qk_norm=True)


def olmo2(config: Config) -> Shape:
    return llama(config, norm="gemma", post_norm=True, qk_norm=True, wide_qk_norm=True)


def stablelm(config: Config) -> Shape:
    if config.get("qk_layernorm"):
        raise NoFormula("tuitune has no formula for a stablelm model with qk_layernorm")
    parallel = bool(config.get("use_parallel_residual"))
    hidden = int(config["hidden_size"])
    biased = bool(config.get("use_qkv_bias"))
    return llama(
        *(config, None, biased, False),
        norm="layer",
        norms=1 if parallel else 2,
        parallel=parallel,
        residual_dropout=bool(config.get("hidden_dropout")),
        held_norm=True,
        other=2 * hidden,
    )


def starcoder2(config: Config) -> Shape:
    sizes = _sizes(config)
    hidden, biased = sizes["hidden"], bool(config.get("use_bias", True))
    mlp = _plain(hidden, sizes["mlp_width"], ("mlp.c_fc", "mlp.c_proj"))
    return Shape(
        **sizes,
        tied=True,
        linears=_attention(sizes, biased) + tuple(replace(linear, bias=biased) for linear in mlp),
        default_targets=QV,
        norm="layer",
        activation=_activation(config.get("hidden_act", "gelu_pytorch_tanh")),
        window=config.get("sliding_window"),
        residual_dropout=bool(config.get("residual_dropout")),
        other=2 * hidden,
    )


def phi3(config: Config) -> Shape:
    sizes = _sizes(config)
    hidden, width = sizes["hidden"], sizes["mlp_width"]
    query, key = sizes["heads"] * sizes["head_dim"], sizes["kv_heads"] * sizes["head_dim"]
    linears = (
        Linear("self_attn.qkv_proj", hidden, query + 2 * key, "attention norm"),
        Linear("self_attn.o_proj", query, hidden, "attention"),
        Linear("mlp.gate_up_proj", hidden, 2 * width, "mlp norm"),
        Linear("mlp.down_proj", width, hidden, "mlp"),
    )
    return Shape(
        **sizes,
        tied=False,
        linears=linears,
        default_targets=("qkv_proj",),
        fused_qkv=True,
        window=config.get("sliding_window"),
        residual_dropout=bool(config.get("resid_pdrop")),
        other=hidden,
    )


def phi(config: Config) -> Shape:
    sizes = _sizes(config)
    linears = _attention(sizes, True, output="dense") + _plain(
        sizes["hidden"], sizes["mlp_width"], ("mlp.fc1", "mlp.fc2"), "attention norm"
    )
    return Shape(
        **sizes,
        tied=False,
        linears=linears,
        default_targets=(*QV, "fc1", "fc2"),
        norm="layer",
        norms=1,
        activation=_activation(config.get("hidden_act", "gelu_new")),
        parallel=True,
        residual_dropout=bool(config.get("resid_pdrop")),
        other=2 * sizes["hidden"],
        head_bias=True,
    )


def gpt_neox(config: Config) -> Shape:
    sizes = _sizes({**config, "num_key_value_heads": None, "head_dim": None})
    hidden = sizes["hidden"]
    attention = (
        Linear("attention.query_key_value", hidden, 3 * hidden, "attention norm", bool(config.get("attention_bias", True))),
        Linear("attention.dense", hidden, hidden, "attention", bool(config.get("attention_bias", True))),
    )
    return Shape(
        **sizes,
        tied=False,
        linears=attention + _plain(hidden, sizes["mlp_width"], ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h")),
        default_targets=("query_key_value",),
        norm="layer",
        activation=_activation(config.get("hidden_act", "gelu")),
        fused_qkv=True,
        parallel=bool(config.get("use_parallel_residual", True)),
        residual_dropout=bool(config.get("hidden_dropout")),
        other=2 * hidden,
    )


def gpt2(config: Config) -> Shape:
    hidden, heads = int(config["n_embd"]), int(config["n_head"])
    width = int(config.get("n_inner") or 4 * hidden)
    attention = (
        Linear("attn.c_attn", hidden, 3 * hidden, "attention norm", True),
        Linear("attn.c_proj", hidden, hidden, "attention", True),
    )
    return Shape(
        family="",
        hidden=hidden,
        layers=int(config["n_layer"]),
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        vocab=int(config["vocab_size"]),
        tied=True,
        linears=attention + _plain(hidden, width, ("mlp.c_fc", "mlp.c_proj")),
        default_targets=("c_attn",),
        mlp_width=width,
        norm="layer",
        activation=_activation(config.get("activation_function", "gelu_new")),
        fused_qkv=True,
        rotary=False,
        residual_dropout=bool(config.get("resid_pdrop", 0.1)),
        other=int(config.get("n_positions", 1024)) * hidden + 2 * hidden,
    )


def _activation(name: Any) -> Any:
    """How an activation function of transformers is built: gelu_new and its kin are written out as a formula."""
    if name in ("gelu_new", "gelu_fast", "quick_gelu"):
        return "gelu_new"
    return "gelu"
