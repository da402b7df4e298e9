"""Shapes of mixture-of-experts models, from their config.json: a dense model's with experts in the place of its MLP."""

from dataclasses import replace

from tuitune.memory.dense import Config, gated, llama, qwen3, qwen_window
from tuitune.memory.shape import Experts, Linear, NoFormula, Shape


def mixtral(config: Config) -> Shape:
    return _mixture(llama(config, bias=False, window=config.get("sliding_window")), _experts(config))


def qwen3_moe(config: Config) -> Shape:
    _refuse_layers_without_experts(config)
    return _mixture(qwen3(config), _experts(config, _count(config), "moe_intermediate_size"))


def qwen2_moe(config: Config) -> Shape:
    _refuse_layers_without_experts(config)
    shared = int(config["shared_expert_intermediate_size"])
    experts = replace(_experts(config, _count(config), "moe_intermediate_size"), shared=shared, lora=False)
    dense = llama(config, bias=bool(config.get("qkv_bias", True)), output_bias=False, window=qwen_window(config))
    mixture = _mixture(dense, experts)
    gate = Linear("mlp.shared_expert_gate", dense.hidden, 1, "mlp norm")
    return replace(mixture, linears=(*mixture.linears, *gated(dense.hidden, shared, at="mlp.shared_expert"), gate))


def _refuse_layers_without_experts(config: Config) -> None:
    if config.get("mlp_only_layers") or int(config.get("decoder_sparse_step") or 1) != 1:
        raise NoFormula("tuitune has no formula for a mixture-of-experts model of which some layers have no experts")


def _count(config: Config) -> str:
    """The name of the number of experts."""
    return "num_experts" if config.get("num_experts") else "num_local_experts"


def olmoe(config: Config) -> Shape:
    return _mixture(llama(config, qk_norm=True, wide_qk_norm=True), _experts(config, "num_experts"))


def granitemoe(config: Config) -> Shape:
    return _mixture(llama(config), replace(_experts(config), lora=False))  # peft 0.21 does not convert its experts


def _experts(config: Config, count: str = "num_local_experts", width: str = "intermediate_size") -> Experts:
    """Experts whose number and width have these names in the config."""
    return Experts(int(config[count]), int(config["num_experts_per_tok"]), int(config[width]), lora=True)


def _mixture(dense: Shape, experts: Experts) -> Shape:
    """A dense model's shape with experts in the place of its MLP."""
    attention = tuple(linear for linear in dense.linears if linear.source not in ("mlp norm", "mlp"))
    return replace(dense, linears=attention, experts=experts, mlp_width=experts.width)
