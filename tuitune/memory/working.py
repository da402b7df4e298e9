"""What a layer needs for a moment beyond what it keeps: the moments at which its backward pass can peak. Bytes.

Followed operation by operation through autograd (a node's saved tensors are freed when it has run; non-reentrant checkpoints recompute at
the first node that needs a saved tensor, and stop at the last one saved). h hidden, f MLP width, c bytes of a product's operand, T tokens.
"""

from tuitune.memory.activations import input_bytes, layer_bytes, mlp_bytes, norm_output_bytes, own_copies
from tuitune.memory.settings import Settings
from tuitune.memory.shape import Linear, Shape


def layer_peak(shape: Shape, settings: Settings, checkpointed: bool) -> int:
    """The most that one layer's backward pass holds: what it kept and the largest moment."""
    moments = [product_moment(shape, settings), down_moment(shape, settings), attention_moment(shape, settings)]
    if checkpointed:
        moments.append(recompute_moment(shape, settings))
    return layer_bytes(shape, settings) + max(moments)


def product_moment(shape: Shape, settings: Settings) -> int:
    """Backward of act(gate)·up: the gradients of product, gate and up (3cf) and the one that came in, when down's own input is freed.

    Without a gate: gradients before and after the activation (2cf); a written-out GELU handles three in float32 (12f).
    """
    c, width = settings.compute_bytes, _width(shape)
    if shape.activation == "gated":
        gradients = 3 * c * width
    else:
        gradients = (2 * c if shape.activation == "gelu" or not settings.amp else 12) * width
    return (gradients - input_bytes(shape, settings).get("mlp", 0) + _incoming(shape, settings)) * settings.tokens


def down_moment(shape: Shape, settings: Settings) -> int:
    """Backward of the down projection: its matrix out of 4 bits, the gradient of its input (cf) from base and adapter each.

    The adapter's part comes first and frees what it kept; a layer trained as a whole keeps its input to the end.
    """
    c, width = settings.compute_bytes, _width(shape)
    each_token = c * width + _incoming(shape, settings)
    if settings.lora and _down_adapted(shape, settings):
        each_token += c * width - input_bytes(shape, settings).get("mlp", 0)
    return each_token * settings.tokens + dequantised_bytes(_down(shape), settings) + _new_gradient(shape, settings)


def attention_moment(shape: Shape, settings: Settings) -> int:
    """Backward of flash attention, when the MLP's share is gone: query's gradient in float32 and c, key's and value's for every head."""
    c, query, key = settings.compute_bytes, shape.query_width, shape.key_width
    inputs = input_bytes(shape, settings)
    gone = mlp_bytes(shape, settings) + inputs.get("mlp", 0) + inputs.get("mlp norm", 0)
    gradients = (4 + c) * query + 2 * c * (query + key)
    return (gradients - gone + 2 * _incoming(shape, settings)) * settings.tokens


def recompute_moment(shape: Shape, settings: Settings) -> int:
    """The end of a checkpointed layer's second forward pass: the gradient that came in and the scaled one for the adapter, the residual, what
    the norm handed on unless kept, down's input unless kept, in float32 for a float32 adapter (twice with dropout), down's output.

    A down projection without adapter needs nothing kept: it is not computed again. In 4 bits its backward runs before the rest is recomputed
    (bitsandbytes' MatMul4Bit keeps its tensors outside of autograd), so the product's gradient is there already.
    """
    c, width, tokens = settings.compute_bytes, _width(shape), settings.tokens
    inputs = input_bytes(shape, settings)
    stream = settings.weight_bytes * shape.hidden
    handed_on = norm_output_bytes(shape, settings)
    shared = inputs.get("mlp norm", 0) > 0 and not (settings.dropout and settings.lora) and not own_copies(settings) and handed_on == c
    around = _incoming(shape, settings) + stream + (0 if shared else handed_on * shape.hidden)
    if settings.lora and not _down_adapted(shape, settings):
        held = around + c * width
        return held * tokens + _scratch(_up(shape), settings)
    around += c * shape.hidden * (2 if settings.lora else 1)
    own = settings.lora and (own_copies(settings) or settings.dropout > 0)
    product = c * width if own else 0
    in_adapter = product + (4 * width * (2 if settings.dropout else 1) if own_copies(settings) else 0)
    in_base = product - (inputs.get("mlp", 0) if own else 0)  # the adapter has not made its copy yet
    return max((around + in_adapter) * tokens, (around + in_base) * tokens + _scratch(_down(shape), settings))


def forward_bytes(shape: Shape, settings: Settings, tokens: int, adapted: bool) -> int:
    """One layer's forward pass without gradients (evaluation, a reference): embeddings, layer input, residual and norm output (4h); gate's
    product with up and its factors (3f), or, with adapters, act(gate) and base, low-rank and sum of up (4f); a matrix out of 4 bits."""
    c, width = settings.compute_bytes, _width(shape)
    stream = 4 * settings.weight_bytes * shape.hidden
    return ((4 if adapted else 3) * c * width + stream) * tokens + _scratch(_down(shape), settings)


def dequantised_bytes(linear: Linear | None, settings: Settings) -> int:
    """A 4-bit matrix in 16 bits, while it is multiplied: 2 a weight. One at a time, forward and backward."""
    return 2 * linear.weights if settings.quantised and linear is not None else 0


def _scratch(linear: Linear | None, settings: Settings) -> int:
    """The same in the forward pass, where double-quantised scales are unpacked beside it: 8 for each block of 64 weights."""
    scales = linear.weights // 64 * 8 if settings.weights == "nf4 double" and linear is not None else 0
    return dequantised_bytes(linear, settings) + scales


def _incoming(shape: Shape, settings: Settings) -> int:
    """A token's gradient of the residual stream."""
    return settings.weight_bytes * shape.hidden


def _new_gradient(shape: Shape, settings: Settings) -> int:
    """Full fine-tuning: down's gradient before it is added to what an earlier micro-batch left, or cast to float32."""
    down = _down(shape)
    if settings.lora or down is None:
        return 0
    return down.weights * (settings.trained_bytes if settings.accumulation > 1 else 0) + (2 * down.weights if settings.casts else 0)


def _width(shape: Shape) -> int:
    """MLP elements of a token: all experts it goes through together."""
    return shape.mlp_width * (shape.experts.used if shape.experts else 1)


def _down(shape: Shape) -> Linear | None:
    return next((linear for linear in shape.linears if linear.source == "mlp"), None)


def _up(shape: Shape) -> Linear | None:
    return max((one for one in shape.linears if one.source == "mlp norm"), key=lambda one: one.weights, default=_down(shape))


def _down_adapted(shape: Shape, settings: Settings) -> bool:
    return any(linear.source == "mlp" for linear in shape.targets(settings.targets)) or shape.adapts_experts(settings.targets)
