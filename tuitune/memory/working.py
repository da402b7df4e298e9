"""What a layer needs for a moment beyond what it keeps: the moments at which its backward pass can peak. Bytes.

Followed operation by operation through autograd (a node's saved tensors are freed when it has run; non-reentrant checkpoints recompute at
the first node that needs a saved tensor, and stop at the last one saved). h hidden, f MLP width, c bytes of a product's operand, T tokens.
"""

from tuitune.memory.activations import checkpoint_bytes, counted, input_bytes, layer_bytes, mlp_bytes, norm_output_bytes, own_copies
from tuitune.memory.settings import Settings
from tuitune.memory.shape import Linear, Shape


def layer_peak(shape: Shape, settings: Settings, checkpointed: bool) -> int:
    """The most that one layer's backward pass holds: what it kept and the largest moment."""
    if shape.measured is not None:
        found = counted(shape, settings)
        return layer_bytes(shape, settings) + (found.recomputed if checkpointed else found.moment).at(settings)
    moments = [product_moment(shape, settings), down_moment(shape, settings), attention_moment(shape, settings)]
    if shape.post_norm:  # the MLP's own output is normalised: that norm is differentiated first
        moments.append(norm_bytes(shape, settings) + _incoming(shape, settings) * settings.tokens)
    if not checkpointed:
        return layer_bytes(shape, settings) + max(moments)
    keeps_input = settings.weight_bytes == 4 or settings.liger  # a norm of float32, and Liger's, keeps its input: the checkpoint
    shared = checkpoint_bytes(shape, settings) if keeps_input else 0
    return layer_bytes(shape, settings) - shared + max(*moments, recompute_moment(shape, settings))


def product_moment(shape: Shape, settings: Settings) -> int:
    """Backward of act(gate)·up: the gradients of product, gate and up (3cf) and the one that came in, when down's own input is freed.

    Without a gate: gradients before and after the activation (2cf); a written-out GELU handles three in float32 (12f), below an adapter
    with a 16-bit copy of one (14f). Liger writes the gradients of gate and up over gate and up themselves: the product's alone (cf).
    """
    c, width = settings.compute_bytes, _width(shape)
    if shape.activation == "gated":
        gradients = (1 if settings.liger else 3) * c * width
    else:
        written_out = 14 if settings.lora else 12
        gradients = (2 * c if shape.activation == "gelu" or not settings.amp else written_out) * width
    weights = _down_weights(shape)
    made = (
        0 if settings.lora or settings.accumulation > 1 else settings.trained_bytes
    )  # down's gradient, unless it was added to an older one
    cast = 2 if settings.casts else 0  # down's 16-bit copy is gone with its node
    each_token = gradients - input_bytes(shape, settings).get("mlp", 0) + _incoming(shape, settings)
    return each_token * settings.tokens + (made - cast) * weights


def down_moment(shape: Shape, settings: Settings) -> int:
    """Backward of the down projection: its matrix out of 4 bits, the gradient of its input (cf) from base and adapter each.

    The adapter's part comes first and frees what it kept; a layer trained as a whole keeps its input to the end.
    """
    c, width = settings.compute_bytes, _width(shape)
    each_token = c * width + _incoming(shape, settings)
    if settings.lora and _down_adapted(shape, settings):
        each_token += c * width - input_bytes(shape, settings).get("mlp", 0)
    return each_token * settings.tokens + dequantised_bytes(_down(shape), settings) + _down_gradient(shape, settings)


def attention_moment(shape: Shape, settings: Settings) -> int:
    """Backward of flash attention, when the MLP's share is gone: query's gradient in float32 and c, key's and value's for every head."""
    c, query, key = settings.compute_bytes, shape.query_width, shape.key_width
    inputs = input_bytes(shape, settings)
    gone = mlp_bytes(shape, settings) + inputs.get("mlp", 0) + inputs.get("mlp norm", 0)
    gradients = (4 + c) * query + 2 * c * (query + key)
    return (gradients - gone + 2 * _incoming(shape, settings)) * settings.tokens


def recompute_moment(shape: Shape, settings: Settings) -> int:
    """The end of a checkpointed layer's second forward pass: what is around it and the last product's operands.

    With adapters the last is the largest of base, low-rank and scaled low-rank part of up, before they become the sum that is kept; down's
    input in float32 for a float32 adapter (twice with dropout); down's matrix out of 4 bits. A down projection without adapter is not
    computed again, as it keeps nothing. In 4 bits its backward runs before the rest is recomputed (bitsandbytes' MatMul4Bit keeps its
    tensors outside of autograd), so the product's gradient is there already.
    """
    c, width, tokens = settings.compute_bytes, _width(shape), settings.tokens
    kept = input_bytes(shape, settings).get("mlp", 0)
    around = _around(shape, settings)
    if settings.lora and not _down_adapted(shape, settings):
        return (around + c * width) * tokens + _scratch(_up(shape), settings)
    around += c * shape.hidden * (2 if settings.lora else 1)  # down's output, and the gradient scaled for its adapter
    product = c * width if _own_input(settings) else 0
    in_adapter = product + (4 * width * (2 if settings.dropout else 1) if own_copies(settings) else 0)
    in_base = product - (kept if _own_input(settings) else 0)  # the adapter has not made its copy yet
    moments = [(around + in_adapter) * tokens, (around + in_base) * tokens + _scratch(_down(shape), settings)]
    up = _up(shape)
    if settings.lora and up is not None:
        later = kept + (c * width if up.outputs > width else 0)  # act(gate) comes after a fused gate and up
        if shape.activation != "gated":  # all of the activation is still to come, and down's output
            later += mlp_bytes(shape, settings) - c * width + c * shape.hidden
        moments.append((around + 2 * c * up.outputs - later) * tokens)
    return max(moments)


def _around(shape: Shape, settings: Settings) -> int:
    """A token's share of what a layer's MLP holds while it is recomputed: the gradient that came in, the residual (a float32 one is what
    the norm keeps), what the norm handed on unless an adapter shares it."""
    residual = 0 if settings.weight_bytes == 4 or settings.liger else settings.weight_bytes * shape.hidden
    handed_on = norm_output_bytes(shape, settings)
    read = input_bytes(shape, settings).get("mlp norm", 0) > 0
    shared = read and not _own_input(settings) and handed_on == settings.compute_bytes
    norms = 2 if shape.held_norm else 1
    around = _incoming(shape, settings) + residual + (0 if shared else norms * handed_on * shape.hidden)
    if shape.experts and not own_copies(settings):
        # outputs times their weights beside the outputs; a shared expert's times its gate, and the sum. Where adapters copy their inputs
        # those copies are the higher moment (as counted under FakeTensorMode)
        around += settings.compute_bytes * shape.hidden * (shape.experts.used + (2 if shape.experts.shared else 0))
    return around


def _own_input(settings: Settings) -> bool:
    """Whether adapters keep copies of their inputs instead of the inputs themselves."""
    return settings.lora and (own_copies(settings) or settings.dropout > 0)


def norm_bytes(shape: Shape, settings: Settings) -> int:
    """A norm's backward pass. Written-out RMS norms have five float32 gradients at once: x's, that of the mean of x², and three on the way
    from it (20h), when a trained one's normalised value is freed; the fused LayerNorm what came in and what goes out (8h). Liger's writes
    its input's gradient over the one that came in (in_place), but for gemma's, which the residual stream still needs."""
    if shape.measured is not None:
        return counted(shape, settings).norm.at(settings)
    if settings.liger:
        return (2 if shape.norm == "gemma" else 1) * settings.weight_bytes * shape.hidden * settings.tokens
    if shape.norm == "layer":
        return 8 * shape.hidden * settings.tokens
    freed = 0 if settings.lora else 4 if shape.norm == "gemma" else settings.weight_bytes
    return (20 - freed) * shape.hidden * settings.tokens


def forward_bytes(shape: Shape, settings: Settings, tokens: int, adapted: bool) -> int:
    """One layer's forward pass without gradients (evaluation, a reference): embeddings, layer input, residual and norm output (4h); gate's
    product with up and its factors (3f), or, with adapters, act(gate) and base, low-rank and sum of up (4f); a matrix out of 4 bits."""
    if shape.measured is not None:
        return counted(shape, settings).evaluation.at(settings)
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
    """A token's gradient of the residual stream, and its 16-bit copy for the products when the stream is in float32."""
    return (settings.weight_bytes + (settings.compute_bytes if settings.casts else 0)) * shape.hidden


def _down_gradient(shape: Shape, settings: Settings) -> int:
    """The gradient of the down projection, as it is made: in 16 bits when autocast had cast the weight. With adapters stacked experts have
    one, of the matrix that the adapters were added to."""
    if settings.lora:
        return _down_weights(shape) * settings.weight_bytes if shape.adapts_experts(settings.targets) else 0
    return _down_weights(shape) * (2 if settings.casts else settings.trained_bytes)


def _down_weights(shape: Shape) -> int:
    """Elements of the down projection, of all experts together."""
    down = _down(shape)
    return shape.expert_weights // 3 if down is None else down.weights


def _width(shape: Shape) -> int:
    """MLP elements of a token: all experts it goes through together."""
    return shape.mlp_width * (shape.experts.used if shape.experts else 1)


def _down(shape: Shape) -> Linear | None:
    """The down projection; None where it is stacked experts' (a shared expert's is smaller and comes later)."""
    return None if shape.experts else next((linear for linear in shape.linears if linear.source == "mlp"), None)


def _up(shape: Shape) -> Linear | None:
    return max((one for one in shape.linears if one.source == "mlp norm"), key=lambda one: one.weights, default=_down(shape))


def _down_adapted(shape: Shape, settings: Settings) -> bool:
    return any(linear.source == "mlp" for linear in shape.targets(settings.targets)) or shape.adapts_experts(settings.targets)
