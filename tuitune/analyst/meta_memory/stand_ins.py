"""Keep what CUDA's kernels keep, on fake tensors of the CPU: attention, 4-bit products, dropout, and what autocast takes to float32.

The CPU's own kernels keep other tensors, and those of a GPU cannot run without one.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map


class Attention(torch.autograd.Function):  # type: ignore[misc]
    """Flash or memory-efficient attention: keeps query, key, value, output, a float32 sum for each row, and the mask as an additive one
    (ATen's SDPA makes it so). The backward pass needs a float32 query gradient for a moment."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any = None) -> Any:
        rows, heads, length, _ = query.shape
        output = query.new_empty(rows, length, heads, value.shape[-1]).transpose(1, 2)
        added = () if mask is None else (mask if mask.dtype == query.dtype else query.new_empty(mask.shape),)
        ctx.save_for_backward(query, key, value, output, query.new_empty(rows, heads, length, dtype=torch.float32), *added)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        query, key, value, *_ = ctx.saved_tensors
        exact = torch.empty_like(query, dtype=torch.float32)
        made = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        del exact
        return *made, None


def scaled_dot_product_attention(query: Any, key: Any, value: Any, attn_mask: Any = None, *_: Any, **__: Any) -> Any:
    """In the place of torch's, whatever a model calls it with; 16 bits under autocast, as on CUDA."""
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (query, key, value))
    return Attention.apply(query, key, value, attn_mask)


class FourBitProduct(torch.autograd.Function):  # type: ignore[misc]
    """bitsandbytes' MatMul4Bit: keeps nothing of its input; the matrix is there in 16 bits for a moment, forward and backward, beside
    unpacked scales in the forward pass."""

    @staticmethod
    def forward(ctx: Any, x: Any, outputs: int, nested: bool) -> Any:
        ctx.inputs, ctx.outputs = x.shape[-1], outputs
        matrix = x.new_empty(outputs, ctx.inputs)
        scales = x.new_empty(matrix.numel() // 64 * 2 if nested else 0, dtype=torch.float32)
        result = x.new_empty(*x.shape[:-1], outputs)
        del matrix, scales
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        matrix = gradient.new_empty(ctx.outputs, ctx.inputs)
        result = gradient.new_empty(*gradient.shape[:-1], ctx.inputs)
        del matrix
        return result, None, None


def four_bit_forward(module: Any) -> Any:
    """The forward of a bitsandbytes Linear4bit without its weights: cast to the compute type, product, bias, and back."""

    def forward(x: Any) -> Any:
        dtype = x.dtype
        if module.compute_dtype is not None:
            x = x.to(module.compute_dtype)
        result = FourBitProduct.apply(x, module.out_features, bool(module.weight.compress_statistics))
        return result.to(dtype)  # a bias is added inside of the kernel

    return forward


class _Dropout(torch.autograd.Function):  # type: ignore[misc]
    """CUDA's native dropout: keeps a byte an element."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x.new_empty(x.shape, dtype=torch.bool))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return torch.empty_like(gradient)


def dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """In the place of torch's."""
    return _Dropout.apply(x) if training and p > 0 else x


# What CUDA's autocast computes in float32 (docs.pytorch.org/docs/stable/amp.html), as far as language models use it: from inputs that it
# casts, or (the second) by asking for a float32 result.
CAST = frozenset(
    ("exp", "expm1", "layer_norm", "log", "log10", "log1p", "log2", "logsumexp", "norm", "pow", "reciprocal", "rsqrt", "softplus")
)
ASKED = frozenset(("cumprod", "cumsum", "log_softmax", "prod", "softmax", "sum"))


class AutocastOfCuda(TorchFunctionMode):  # type: ignore[misc]
    """While the CPU's autocast is on, it takes to float32 what CUDA's does."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in CAST and torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map(_exact, (args, kwargs))
        elif name in ASKED and torch.is_autocast_enabled("cpu") and args and _is_half(args[0]) and kwargs.get("dtype") is None:
            kwargs = {**kwargs, "dtype": torch.float32}
        return func(*args, **kwargs)


def _is_half(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)


def _exact(value: Any) -> Any:
    return value.float() if _is_half(value) else value


@contextmanager
def kernels_of_cuda() -> Iterator[None]:
    """All of this module in force; a library that asks whether autocast is on for CUDA hears whether it is for the CPU."""
    enabled = torch.is_autocast_enabled

    def is_enabled(device: str = "cuda") -> bool:
        return bool(enabled("cpu"))

    with ExitStack() as stack:
        stack.enter_context(patch.object(functional, "scaled_dot_product_attention", scaled_dot_product_attention))
        stack.enter_context(patch.object(functional, "dropout", dropout))
        stack.enter_context(patch.object(torch, "is_autocast_enabled", is_enabled))
        stack.enter_context(AutocastOfCuda())
        yield
