"""What several GPUs change in a plan. Everything in bytes, on each of them.

ddp keeps a copy of everything on each, and makes buckets as large as all gradients when it wraps the model (accelerate leaves
gradient_as_bucket_view off).

fsdp (FSDP2) leaves each GPU its share of weights, gradients and optimizer states, in the types they are trained in. While a layer works it
is there whole, in the 16 bits that are computed in: gathered into one block, and the next one behind it. What is no part of a layer stays
gathered for the whole pass, and a trained layer's gradient is there whole, and once more in float32, until it has been added up and shared.
"""

from dataclasses import replace

from tuitune.memory import static
from tuitune.memory.settings import Settings
from tuitune.memory.shape import Shape

Phases = dict[str, dict[str, int]]
SHARED = ("weights", "adapter", "reference", "optimizer states", "optimizer's copies")
BLOCKS = 2  # layers that are gathered at the same time: the one at work and the next
SUM = 4  # bytes of a gradient while it is added up


def computed(settings: Settings) -> Settings:
    """The settings as the passes see them: under fsdp weights come cast, so that nothing is cast on the way."""
    if not settings.spread or not settings.amp:
        return settings
    return replace(settings, weights="bfloat16" if settings.weights == "float32" else settings.weights, adapter_bytes=2)


def on_each(phases: Phases, shape: Shape, settings: Settings) -> Phases:
    """The phases of one GPU, as each of several has them. `phases`: made with `computed` settings but for what stays."""
    if settings.gpus < 2:
        return phases
    if not settings.spread:
        buckets = static.gradient_bytes(shape, settings)
        return {name: parts | {"DDP buckets": buckets} for name, parts in phases.items()}
    return {name: _spread(name, parts, shape, settings) for name, parts in phases.items()}


def _spread(name: str, parts: dict[str, int], shape: Shape, settings: Settings) -> dict[str, int]:
    if name == "load" and settings.quantised:
        return parts  # made on each GPU whole, and spread then
    found = {key: -(-size // settings.gpus) if key in SHARED else size for key, size in parts.items()}
    if name == "load":
        return found
    found["gradients"] = _gradients(name, parts.get("gradients", 0), shape, settings)
    if name != "optimizer step":
        found["gathered weights"] = _rest(shape) + BLOCKS * _layer_bytes(shape, settings)
    if name.startswith("backward") and not settings.lora:
        found["gradients on their way"] = _on_their_way(name, shape, settings)
    return found


def _gradients(name: str, before: int, shape: Shape, settings: Settings) -> int:
    """Each GPU's share in the weights' own type. An adapter's are added up whole between the micro-batches of an update."""
    if settings.lora and settings.accumulation > 1 and name != "optimizer step":
        return static.gradient_bytes(shape, settings)
    widened = before if name == "optimizer step" else before * settings.trained_bytes // computed(settings).trained_bytes
    return -(-widened // settings.gpus)


def _rest(shape: Shape) -> int:
    """Head (or the embedding that is one) and what else is no part of a layer, in 16 bits."""
    return 2 * (shape.embedding + shape.other)


def _layer_bytes(shape: Shape, settings: Settings) -> int:
    """One layer as it is gathered: in 16 bits, or as packed."""
    passes = computed(settings)
    outside = shape.embedding * (1 if shape.tied else 2) + shape.other
    base = static.model_bytes(shape, passes) - outside * passes.weight_bytes
    return (base + static.adapter_bytes(shape, passes)) // shape.layers


def _on_their_way(name: str, shape: Shape, settings: Settings) -> int:
    """One layer's gradients whole, and their sum; a tied embedding's from the head's to its own end."""
    each = computed(settings).trained_bytes
    layer = static.layer_parameters(shape, settings) * (each + SUM)
    tied = shape.embedding * each if shape.tied else 0
    return max(layer + tied, shape.embedding * (each + SUM)) if name == "backward, embedding" else layer + tied
