"""Bytes of weights, from safetensors headers."""

from collections.abc import Iterable

from tuitune.preflight.cards import GIB
from tuitune.preflight.model_files import Tensor

NF4 = 0.52  # bytes a weight in 4 bits with its quantisation constants (double quantised; 0.56 without)


def count(tensor: Tensor) -> int:
    """How many numbers it holds."""
    numbers = 1
    for length in tensor.shape:
        numbers *= length
    return numbers


def is_linear(tensor: Tensor) -> bool:
    """Whether it is a matrix inside a block, which bitsandbytes quantises; embeddings and the head stay as they are."""
    return len(tensor.shape) == 2 and any(part.isdigit() for part in tensor.name.split("."))


def quantised_bytes(tensors: Iterable[Tensor], bits: int, rest: int) -> int:
    """Bytes of a model with its linear layers in 4 or 8 bits and the rest in `rest` bytes a weight."""
    each = NF4 if bits == 4 else 1.0
    return int(sum(count(tensor) * (each if is_linear(tensor) else rest) for tensor in tensors))


def gib(size: float) -> str:
    """ "1.5 GiB", "12 MiB" """
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{max(size / (1 << 20), 0.1):.1f} MiB"
