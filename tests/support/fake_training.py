"""How many bytes real modules hold in a forward and backward pass, counted without computing: torch's FakeTensorMode and a dispatch mode
that follows every storage from birth to death.

Autocast is the CPU's, with the two operations that only CUDA's takes to float32 (layer_norm, pow) added; attention is a stand-in that keeps
what flash attention keeps. Dropout is left out: the CPU's mask is wider.
"""

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROWS, LENGTH = 2, 256
ATTENTION = "stand-in"


class Counter(TorchDispatchMode):
    """`live` and `peak` bytes of storages that were made while it was on."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.model = model
        self.known = {tensor.untyped_storage()._cdata: 0 for tensor in (*model.parameters(), *model.buffers())}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self.known:
            self.known[storage._cdata] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._gone, storage._cdata)

    def _gone(self, key: int) -> None:
        self.live -= self.known.pop(key, 0)


class _FlashLike(torch.autograd.Function):
    """Keeps query, key, value, output and a float32 sum for each row; its backward pass needs a float32 query gradient for a moment."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        rows, heads, length, width = query.shape
        output = query.new_empty(rows, length, heads, width).transpose(1, 2)
        ctx.save_for_backward(query, key, value, output, query.new_empty(rows, heads, length, dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query, key, value, _, _ = ctx.saved_tensors
        exact = torch.empty_like(query, dtype=torch.float32)
        made = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        del exact
        return made


def _attention(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **_: Any) -> tuple[torch.Tensor, None]:
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (tensor.to(torch.bfloat16) for tensor in (query, key, value))
    return _FlashLike.apply(query, key, value).transpose(1, 2).contiguous(), None


transformers.AttentionInterface.register(ATTENTION, _attention)
transformers.AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)


def _in_float32(*tensors: Any) -> tuple[Any, ...]:
    """Tensors in float32 while autocast is on: what CUDA's does for this operation."""
    return tuple(one.float() if torch.is_autocast_enabled("cpu") and isinstance(one, torch.Tensor) else one for one in tensors)


@contextmanager
def _autocast_lists_of_cuda() -> Iterator[None]:
    layer_norm, power = functional.layer_norm, torch.pow

    def exact_norm(x: torch.Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> torch.Tensor:
        x, weight, bias = _in_float32(x, weight, bias)
        return layer_norm(x, shape, weight, bias, eps)

    def exact_power(x: torch.Tensor, exponent: float) -> torch.Tensor:
        return power(*_in_float32(x), exponent)

    with patch.object(functional, "layer_norm", exact_norm), patch.object(torch, "pow", exact_power):
        yield


@dataclass(frozen=True)
class Held:
    """Bytes beside weights: `kept` when the forward pass of the layers has ended (its output not counted), `peak` of the backward pass."""

    kept: int
    peak: int
    parameters: int
    trained: int


def hold(config: Any, *, dtype: torch.dtype, adapter: torch.dtype | None, checkpointed: bool, targets: Any = "all-linear") -> Held:
    """One forward and backward pass of the decoder layers of `config`'s model. `adapter`: its LoRA weights' type; None: all is trained."""
    with torch.device("meta"):
        model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=ATTENTION)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        if adapter is not None:
            lora = LoraConfig(r=16, target_modules=targets, task_type="CAUSAL_LM")
            model = get_peft_model(model, lora, autocast_adapter_dtype=False)
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.to(adapter)
    base = model if adapter is None else model.get_base_model()
    with FakeTensorMode():
        _materialise(model)
        model.train()
        if adapter is not None:
            model.enable_input_require_grads()  # as TRL does with checkpoints; without, the first layer would keep less than the others
        if checkpointed:
            base.gradient_checkpointing_enable({"use_reentrant": False})
        words = torch.zeros(ROWS, LENGTH, dtype=torch.long)
        with _autocast_lists_of_cuda(), Counter(model) as counter:
            with torch.autocast("cpu", torch.bfloat16):
                output = base.base_model(input_ids=words, use_cache=False).last_hidden_state
            gc.collect()
            size = output.numel() * output.element_size()
            kept = counter.live - size
            gradient = torch.empty_like(output)
            counter.peak = 0
            output.backward(gradient)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Held(kept, counter.peak - 2 * size, parameters, trained)


def _materialise(model: torch.nn.Module) -> None:
    """Fake tensors on the CPU in the place of those on the meta device; tied weights stay tied."""
    made: dict[torch.nn.Parameter, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                if parameter not in made:
                    fresh = torch.empty(parameter.shape, dtype=parameter.dtype)
                    made[parameter] = torch.nn.Parameter(fresh, requires_grad=parameter.requires_grad)
                module._parameters[name] = made[parameter]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
