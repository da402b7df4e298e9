"""What the forward pass keeps for the backward pass. Bytes; a token's share is multiplied by the tokens of the micro-batch.

Read from the modelling code of transformers 5, TRL 1.16 and peft 0.21, and proven equal to what real modules keep
(tests/contract/test_memory_shapes.py). Letters: h hidden, f MLP width, a heads, c bytes of a product's operand.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import groupby
from types import MappingProxyType

from tuitune.memory.measured import RANK, Footprint, Measured
from tuitune.memory.settings import Settings
from tuitune.memory.shape import Linear, Shape
from tuitune.memory.static import layer_parameters


def layer_bytes(shape: Shape, settings: Settings) -> int:
    """Everything that one decoder layer keeps when it is not checkpointed (or has just been recomputed)."""
    if shape.measured is not None:
        return counted(shape, settings).layer.at(settings) + _other_rank(shape, shape.measured, settings)
    each_token = (
        norm_bytes(shape, settings)
        + attention_bytes(shape, settings)
        + mlp_bytes(shape, settings)
        + sum(input_bytes(shape, settings).values())
        + rank_bytes(shape, settings)
    )
    return (
        each_token * settings.tokens
        + layer_mask_bytes(shape, settings)
        + cast_bytes(shape, settings)
        + merged_expert_bytes(shape, settings)
    )


def counted(shape: Shape, settings: Settings) -> Footprint:
    """What was counted of a model without formulas. UserError for a way of training that was not."""
    assert shape.measured is not None
    return shape.measured.footprint(settings, masked(shape, settings))


def _other_rank(shape: Shape, measured: Measured, settings: Settings) -> int:
    """What adapters of this rank keep more in a layer than those of RANK: c a token for each adapted module, and 2 for each weight that
    autocast copies; the mean of all layers."""
    if not settings.lora:
        return 0
    adapter = measured.adapter(settings.targets)
    copies = 2 * sum(size * count for size, count in adapter.tensors) if settings.amp and settings.adapter_bytes == 4 else 0
    each_rank = settings.compute_bytes * adapter.modules * settings.tokens + copies
    return (settings.rank - RANK) * each_rank // shape.layers


def checkpoint_bytes(shape: Shape, settings: Settings) -> int:
    """A checkpointed layer's input: the residual stream, in the weights' type: (2 or 4)·h a token."""
    return settings.weight_bytes * shape.hidden * settings.tokens


def norm_bytes(shape: Shape, settings: Settings) -> int:
    """A token's share of the norms.

    RMS norms keep their input in float32 (4h); a trained one its normalised value too (h in the stream's type; gemma's in float32).
    LayerNorm under autocast keeps a float32 copy (4h), and two of one float32 stream share it. Norms of query and key likewise.
    Liger's keep their input as it is and a float32 root for each row (LigerRMSNormFunction.forward in liger_kernel/ops/rms_norm.py).
    """
    if settings.liger:
        return liger_norm_bytes(shape, settings)
    stream = settings.weight_bytes
    heads = (shape.query_width + shape.key_width) if shape.qk_norm else 0
    if shape.norm == "layer":
        each = 4 if settings.amp else stream
        shared = shape.parallel and each == stream
        return each * shape.hidden * (1 if shared else shape.norms)
    kept = 4 * (shape.hidden * shape.norms + heads)
    if settings.lora:
        return kept
    normalised = 4 if shape.norm == "gemma" else stream
    return kept + normalised * shape.hidden * shape.norms + (4 if shape.norm == "gemma" else settings.compute_bytes) * heads


def liger_norm_bytes(shape: Shape, settings: Settings) -> int:
    """A token's share of a layer's norms with Liger's kernels, trained or not: the stream's h each, query and key, 4 for each root."""
    roots = shape.norms
    heads = 0
    if shape.qk_norm:
        heads = settings.compute_bytes * (shape.query_width + shape.key_width)
        roots += 2 if shape.wide_qk_norm else shape.heads + shape.kv_heads
    return settings.weight_bytes * shape.hidden * shape.norms + heads + 4 * roots


def attention_bytes(shape: Shape, settings: Settings) -> int:
    """A token's share of the attention kernel: query and output c·a·d each, key and value c·k·d each, 4a of log-sums.

    Under a mask keys and values are repeated for every head (transformers' sdpa_attention.py); slices of a fused product hold all of it;
    the eager implementation keeps float32 and 16-bit probabilities, (4 + c)·a a key.
    """
    c, query, key = settings.compute_bytes, shape.query_width, shape.key_width
    repeated = query if masked(shape, settings) else key
    kept = c * (2 * query + 2 * repeated) + 4 * shape.heads
    if shape.fused_qkv and shape.rotary and repeated == key:
        kept += c * (query + key)
    if settings.attention == "eager":
        kept += (4 + c) * shape.heads * settings.row_tokens - 4 * shape.heads
    return kept + (2 * shape.hidden if shape.residual_dropout else 0)


def mlp_bytes(shape: Shape, settings: Settings) -> int:
    """A token's share of the activation: gate, act(gate) and up (3cf); one fused GELU its input (cf); a written-out one, under autocast,
    float32 input, tanh and sum beside half the input ((12 + c)f). Experts: as many times as a token goes through, and each one's output.

    Liger keeps gate and up only (2cf) and computes act(gate) again: LigerSiLUMulFunction in ops/swiglu.py, LigerGELUMulFunction in
    ops/geglu.py.
    """
    c, width = settings.compute_bytes, shape.mlp_width
    if shape.experts:
        shared = c * (3 * shape.experts.shared + shape.hidden) if shape.experts.shared else 0
        return shape.experts.used * c * (3 * width + shape.hidden) + shared
    if shape.activation == "gated":
        return (2 if settings.liger else 3) * c * width
    if shape.activation == "gelu":
        return c * width
    return (12 + c if settings.amp else 4 * c) * width


@lru_cache(maxsize=64)
def input_bytes(shape: Shape, settings: Settings) -> Mapping[str, int]:
    """A token's share of what trained linear layers keep of their input, by source of that input.

    Layers that read one tensor share it when they read it as it is. A float32 one is cast to 16 bits for each; a float32 adapter on a
    16-bit base casts to float32, autocast back: a copy each. Dropout: a copy and a byte a position each. The attention's output is kept by
    the attention already.
    """
    c = settings.compute_bytes
    trained = shape.targets(settings.targets) if settings.lora else shape.linears
    kept: dict[str, int] = {}
    for source, group in groupby(sorted(trained, key=_source), key=_source):
        inputs = [linear.inputs for linear in group]
        if settings.lora and (settings.dropout or own_copies(settings)):
            copy = c if settings.amp else settings.adapter_bytes
            kept[source] = sum(inputs) * (copy + (1 if settings.dropout else 0))
        elif source == "attention":
            kept[source] = 0
        elif source == "mlp" or norm_output_bytes(shape, settings) == c:
            kept[source] = c * inputs[0]
        else:
            kept[source] = c * sum(inputs)
    if shape.experts:
        for source, size in _expert_inputs(shape, settings).items():
            kept[source] = kept.get(source, 0) + size
    return MappingProxyType(kept)


def _source(linear: Linear) -> str:
    return linear.source


def _expert_inputs(shape: Shape, settings: Settings) -> dict[str, int]:
    """Inputs of trained experts, sorted by expert (h and f for each one used), and the router's, which a shared expert may have kept."""
    if shape.experts is None or (settings.lora and not shape.adapts_experts(settings.targets)):
        return {}
    c, used = settings.compute_bytes, shape.experts.used
    router = 0 if shape.experts.shared and norm_output_bytes(shape, settings) == c else 1
    return {"mlp norm": c * shape.hidden * (used + router), "mlp": c * shape.experts.width * used}


def own_copies(settings: Settings) -> bool:
    """Whether each adapter makes its own copy of its input: float32 adapters where products are in 16 bits.

    Under autocast peft's 4-bit layers hand it on as it is (lora/bnb.py, requires_conversion), and others where tuitune tells them to
    (tuitune.trainer.adapter_dtype).
    """
    as_it_is = settings.amp and (settings.quantised or not settings.input_casts)
    return settings.lora and settings.adapter_bytes != settings.compute_bytes and not as_it_is


def norm_output_bytes(shape: Shape, settings: Settings) -> int:
    """Bytes an element of what a norm hands on: the stream's type; LayerNorm's under autocast is float32."""
    return 4 if shape.norm == "layer" and settings.amp else settings.weight_bytes


def rank_bytes(shape: Shape, settings: Settings) -> int:
    """A token's share of the adapters' middle: c·rank for each adapted layer."""
    return settings.compute_bytes * settings.rank * len(shape.targets(settings.targets)) if settings.lora else 0


def cast_bytes(shape: Shape, settings: Settings) -> int:
    """16-bit copies of one layer's float32 weights (2 a weight), which autocast makes and the graph holds; of float32 adapters too."""
    copies = shape.linear_weights + shape.expert_weights if settings.casts else 0
    if settings.lora and settings.amp and settings.adapter_bytes == 4:
        copies += layer_parameters(shape, settings)
    return 2 * copies


def merged_expert_bytes(shape: Shape, settings: Settings) -> int:
    """peft adds the product of the adapters to stacked experts before they are used: a whole copy of them, kept by the graph."""
    return shape.expert_weights * settings.weight_bytes if settings.lora and shape.adapts_experts(settings.targets) else 0


def masked(shape: Shape, settings: Settings) -> bool:
    """Whether SDPA gets a mask: padded rows, packed rows (which documents see each other), a window shorter than the rows."""
    if settings.attention == "flash":
        return False
    window = shape.window is not None and shape.window <= settings.row_tokens
    return settings.packed or settings.padded or window or settings.attention == "eager"


def mask_positions(settings: Settings) -> int:
    """Entries of the mask: rows·length²."""
    return settings.tokens * settings.row_tokens


def mask_bytes(shape: Shape, settings: Settings) -> int:
    """The mask itself, once: a byte an entry."""
    return mask_positions(settings) if masked(shape, settings) and shape.measured is None else 0


def layer_mask_bytes(shape: Shape, settings: Settings) -> int:
    """What a layer makes of it: the additive mask in the products' type, kept for the backward pass (ATen's SDPA)."""
    return settings.compute_bytes * mask_positions(settings) if masked(shape, settings) and shape.measured is None else 0
