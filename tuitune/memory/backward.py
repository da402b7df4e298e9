"""The backward pass from the last norm to the embedding: what is there at each of its ends. Bytes.

Between the last layer (all activations, few gradients) and the first one (few activations, all gradients) both change in proportion to the
layers, so one of the two ends is the highest.
"""

from tuitune.memory import activations, loss, static, working
from tuitune.memory.settings import Settings
from tuitune.memory.shape import Shape


def kept(shape: Shape, settings: Settings) -> dict[str, int]:
    """What the forward pass has kept when it ends."""
    checkpoints = checkpointed_layers(shape, settings)
    layers = (shape.layers - checkpoints) * activations.layer_bytes(shape, settings)
    return {
        "checkpoints": checkpoints * activations.checkpoint_bytes(shape, settings),
        "activations": layers + _after_layers(shape, settings),
        **_whole_batch(shape, settings),
    }


def _after_layers(shape: Shape, settings: Settings) -> int:
    """What the last norm keeps, and all else between the last layer and the head."""
    return loss.final_norm_bytes(shape, settings) if shape.measured is None else activations.counted(shape, settings).final.at(settings)


def checkpointed_layers(shape: Shape, settings: Settings) -> int:
    """Layers of which only the input is kept: every n-th, the first included (transformers' activation_checkpointing_enable)."""
    return -(-shape.layers // settings.checkpoint_every) if settings.checkpoint_every else 0


def phases(shape: Shape, settings: Settings) -> dict[str, dict[str, int]]:
    """Phase → component → bytes, beside weights and states."""
    return {
        "backward, last norm": {
            **kept(shape, settings),
            "gradients": _gradients_before(shape, settings),
            "one layer at work": working.norm_bytes(shape, settings),
        },
        **_last_layers(shape, settings),
        "backward, first layer": {
            **_whole_batch(shape, settings),
            "gradients": _gradients_behind(shape, settings),
            "checkpoints": activations.checkpoint_bytes(shape, settings) if settings.checkpoint_every else 0,
            "one layer at work": working.layer_peak(shape, settings, settings.checkpoint_every > 0),
        },
        "backward, embedding": {
            "gradients": _gradients_at_end(shape, settings),
            "one layer at work": activations.checkpoint_bytes(shape, settings),  # the gradient that arrives there
        },
    }


def _last_layers(shape: Shape, settings: Settings) -> dict[str, dict[str, int]]:
    """The last layer, and the last checkpointed one when that is another: the layers above it are gone by then."""
    every, checkpointed = settings.checkpoint_every, checkpointed_layers(shape, settings)
    above = (shape.layers - 1) % every if every else 0
    alone = shape.layers - checkpointed
    common = {
        **_whole_batch(shape, settings),
        "gradients": _gradients_before(shape, settings),
        "checkpoints": checkpointed * activations.checkpoint_bytes(shape, settings),
    }
    each = activations.layer_bytes(shape, settings)
    found = {}
    if alone and (above or not every):
        one = working.layer_peak(shape, settings, False)
        found["backward, last layer"] = {**common, "activations": (alone - 1) * each, "one layer at work": one}
    if checkpointed:
        one = working.layer_peak(shape, settings, True)
        name = "backward, last checkpointed layer" if above else "backward, last layer"
        found[name] = {**common, "activations": (alone - above) * each, "one layer at work": one}
    return found


def _whole_batch(shape: Shape, settings: Settings) -> dict[str, int]:
    """Mask and rotary positions (cosine and sine), made once for all layers."""
    if shape.measured is not None:
        return {"mask and positions": activations.counted(shape, settings).whole.at(settings)}
    positions = 2 * settings.weight_bytes * settings.row_tokens * shape.head_dim if shape.rotary else 0
    return {"mask": activations.mask_bytes(shape, settings), "positions": positions}


def _gradients_before(shape: Shape, settings: Settings) -> int:
    """At the last layer: what earlier micro-batches left, and the head's own (a tied one waits for the embedding's to be added to)."""
    head = _head_gradient(shape, settings)
    if settings.accumulation > 1:
        return static.gradient_bytes(shape, settings) + (head if shape.tied else 0)
    return head


def _gradients_behind(shape: Shape, settings: Settings) -> int:
    """At the first layer: all but its own and the embeddings' (of positions too)."""
    waiting = _head_gradient(shape, settings) if shape.tied else 0
    total = static.gradient_bytes(shape, settings) + waiting
    if settings.accumulation > 1:
        return total
    embeddings = 0 if settings.lora else (shape.embedding + shape.other) * settings.trained_bytes
    return total - embeddings - static.layer_parameters(shape, settings) * settings.trained_bytes


def _gradients_at_end(shape: Shape, settings: Settings) -> int:
    """At the embedding: all; a tied matrix has two, added up in place; with accumulation they are new beside the old."""
    total = static.gradient_bytes(shape, settings)
    if settings.lora:
        return total
    new = shape.embedding * settings.trained_bytes if settings.accumulation > 1 else 0
    return total + new + (_head_gradient(shape, settings) if shape.tied else 0)


def _head_gradient(shape: Shape, settings: Settings) -> int:
    """The head's gradient, when the head is trained."""
    return 0 if settings.lora or settings.loss == "none" else shape.embedding * settings.trained_bytes
