"""What lies in memory from step to step: weights, adapter, optimizer states, gradients, reference. Everything in bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from tuitune.errors import UserError
from tuitune.memory.measured import Measured
from tuitune.memory.settings import Settings
from tuitune.memory.shape import Shape
from tuitune.text import printable

# One 4-bit layer's own tables: 16 + 256 floats of code, nested offset and scale, in blocks of 512 bytes (bitsandbytes QuantState)
TABLES = 3 << 10


@dataclass(frozen=True)
class Optimizer:
    """`states` a weight. `bits` 8 or 32 as bitsandbytes keeps them; 0: in the weight's own type. `paged`: in managed memory.
    `copies`: temporary copies of all weights during its step."""

    states: int
    bits: int = 0
    paged: bool = False
    copies: int = 0


# transformers' OptimizerNames; torch's foreach AdamW takes the roots of all second moments at once
OPTIMIZERS = {
    "adamw_torch_fused": Optimizer(2),
    "adamw_torch": Optimizer(2, copies=1),
    "adamw_8bit": Optimizer(2, 8),
    "adamw_bnb_8bit": Optimizer(2, 8),
    "paged_adamw_8bit": Optimizer(2, 8, paged=True),
    "paged_adamw": Optimizer(2, 32, paged=True),
    "paged_adamw_32bit": Optimizer(2, 32, paged=True),
    "ademamix": Optimizer(3, 32),
    "ademamix_8bit": Optimizer(3, 8),
    "lion_32bit": Optimizer(1, 32),
    "lion_8bit": Optimizer(1, 8),
    "paged_lion": Optimizer(1, 32, paged=True),
    "paged_lion_32bit": Optimizer(1, 32, paged=True),
    "paged_lion_8bit": Optimizer(1, 8, paged=True),
    "sgd": Optimizer(0),
}


@dataclass(frozen=True)
class Trained:
    """`count` trained tensors of `size` elements each; `layer`: one in each decoder layer. `embedding`: bitsandbytes keeps its states in
    32 bits."""

    size: int
    count: int = 1
    layer: bool = False
    embedding: bool = False


def linear_bytes(weights: int, settings: Settings) -> int:
    """One matrix in memory. NF4: half a byte a weight, a scale for each 64 (4 bytes; double quantised: 1 byte and 4 for each 256 of them:
    QLoRA, arXiv 2305.14314, section 3)."""
    if not settings.quantised:
        return weights * settings.weight_bytes
    scales = weights // 64
    return weights // 2 + (scales + scales // 64 if settings.weights == "nf4 double" else 4 * scales) + TABLES


def model_bytes(shape: Shape, settings: Settings) -> int:
    """The base model: linear layers as quantised, all else (embeddings, head, norms, biases, stacked experts) in the model's own type."""
    inner = sum(linear_bytes(linear.weights, settings) * shape.count(linear) for linear in shape.linears)
    head = 0 if shape.tied or settings.loss != "none" else shape.embedding + (shape.vocab if shape.head_bias else 0)
    return inner + (shape.parameters - head - shape.all_linear_weights) * settings.weight_bytes


@lru_cache(maxsize=64)
def trained_tensors(shape: Shape, settings: Settings) -> tuple[Trained, ...]:
    """Every trained tensor. LoRA: A (rank × in) and B (out × rank) of each target; peft gives each expert of a stacked tensor its own rank,
    twice for gate and up together, and adapts their router."""
    return tuple(_trained_tensors(shape, settings) if shape.measured is None else _counted_tensors(shape, shape.measured, settings))


def _counted_tensors(shape: Shape, measured: Measured, settings: Settings) -> Iterator[Trained]:
    """The same of a model that was counted, as peft and its modules have them."""
    if settings.lora:
        for size, count in measured.adapter(settings.targets).tensors:
            yield Trained(size * settings.rank, count, layer=True)
        return
    for linear in shape.linears:
        yield Trained(linear.weights, shape.count(linear), layer=True)
    for size, count in measured.tensors:
        yield Trained(size, count, layer=count >= shape.layers)
    yield from _embeddings(shape, settings)


def _trained_tensors(shape: Shape, settings: Settings) -> Iterator[Trained]:
    if settings.lora:
        for linear in shape.targets(settings.targets):
            yield Trained(settings.rank * linear.inputs, shape.layers, layer=True)
            yield Trained(settings.rank * linear.outputs, shape.layers, layer=True)
        if shape.experts and shape.adapts_experts(settings.targets):
            rank, width = settings.rank * shape.experts.count, shape.experts.width
            router = (settings.rank * shape.hidden, settings.rank * shape.experts.count)
            for size in (2 * rank * shape.hidden, 2 * rank * 2 * width, rank * width, rank * shape.hidden, *router):
                yield Trained(size, shape.layers, layer=True)
        return
    for linear in shape.linears:
        yield Trained(linear.weights, shape.layers, layer=True)
    for size in shape.small_tensors:
        yield Trained(size, shape.layers, layer=True)
    if shape.experts:
        yield Trained(shape.expert_weights * 2 // 3, shape.layers, layer=True)
        yield Trained(shape.expert_weights // 3, shape.layers, layer=True)
    yield from _embeddings(shape, settings)


def _embeddings(shape: Shape, settings: Settings) -> Iterator[Trained]:
    """What is no part of a layer: embedding, head, last norm."""
    yield Trained(shape.embedding, embedding=True)
    if not shape.tied and settings.loss != "none":
        yield Trained(shape.embedding)
    if shape.other:
        yield Trained(shape.other)


def trained_parameters(shape: Shape, settings: Settings) -> int:
    """Elements that are trained."""
    return sum(tensor.size * tensor.count for tensor in trained_tensors(shape, settings))


def adapter_bytes(shape: Shape, settings: Settings) -> int:
    """LoRA's own weights; 0 for full fine-tuning."""
    return trained_parameters(shape, settings) * settings.adapter_bytes if settings.lora else 0


def gradient_bytes(shape: Shape, settings: Settings) -> int:
    """All gradients at once, in the type of their weights."""
    return trained_parameters(shape, settings) * settings.trained_bytes


def layer_parameters(shape: Shape, settings: Settings) -> int:
    """Elements that are trained in one layer; where layers differ, the mean."""
    return sum(tensor.size * tensor.count for tensor in trained_tensors(shape, settings) if tensor.layer) // shape.layers


def reference_bytes(shape: Shape, settings: Settings) -> int:
    """What the reference of DPO or KTO adds: a frozen copy of the adapter, or of the whole model in its type (TRL's DPOTrainer)."""
    if settings.reference == "adapter":
        return adapter_bytes(shape, settings)
    return model_bytes(shape, settings) if settings.reference == "model" else 0


def optimizer(settings: Settings) -> Optimizer:
    """UserError for one without figures."""
    try:
        return OPTIMIZERS[settings.optimizer]
    except KeyError:
        name = printable(settings.optimizer, limit=60)
        raise UserError(f"no memory plan for optim: {name} yet; plan with one of {', '.join(OPTIMIZERS)}") from None


def state_bytes(shape: Shape, settings: Settings) -> tuple[int, int]:
    """(bytes in torch's memory, bytes in managed memory) of the optimizer's states.

    8 bits (bitsandbytes/optim/optimizer.py): a byte a weight and state, and 4 for each block of 256; tensors under 4096 elements and
    embeddings (transformers' Trainer registers them so) in 32. Paged: tensors of 100,000 elements and more.
    """
    kind = optimizer(settings)
    device = managed = 0
    for tensor in trained_tensors(shape, settings):
        small = kind.bits == 8 and tensor.size >= 4096 and not tensor.embedding
        each = tensor.size * (1 if small else 4 if kind.bits else settings.trained_bytes)
        if kind.paged and tensor.size >= 100_000:
            managed += each * kind.states * tensor.count
        else:
            device += each * kind.states * tensor.count
        if small:
            device += -(-tensor.size // 256) * 4 * kind.states * tensor.count
    return device, managed
