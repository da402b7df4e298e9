"""How many bytes real modules hold in a forward and backward pass, counted without computing (tuitune.analyst.meta_memory).

Autocast is the CPU's with what CUDA's takes to float32 added; attention is a stand-in that keeps what flash attention keeps. Dropout is
left out: the CPU's mask is wider.
"""

import gc
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode

from tuitune.analyst.meta_memory.counter import Counter
from tuitune.analyst.meta_memory.model import materialise
from tuitune.analyst.meta_memory.stand_ins import Attention, AutocastOfCuda

ROWS, LENGTH = 2, 256
ATTENTION = "stand-in"


def _attention(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **_: Any) -> tuple[torch.Tensor, None]:
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (tensor.to(torch.bfloat16) for tensor in (query, key, value))
    return Attention.apply(query, key, value).transpose(1, 2).contiguous(), None


transformers.AttentionInterface.register(ATTENTION, _attention)
transformers.AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)


@dataclass(frozen=True)
class Held:
    """Bytes beside weights: `kept` when the forward pass of the layers has ended (its output not counted), `peak` of the backward pass."""

    kept: int
    peak: int
    parameters: int
    trained: int


def hold(
    config: Any,
    *,
    dtype: torch.dtype,
    adapter: torch.dtype | None,
    checkpointed: bool,
    targets: Any = "all-linear",
    patch: Callable[[Any], None] | None = None,
) -> Held:
    """One forward and backward pass of the decoder layers of `config`'s model. `adapter`: its LoRA weights' type; None: all is trained.
    `patch` changes the model before there are adapters."""
    with torch.device("meta"):
        model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=ATTENTION)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        if patch is not None:
            patch(model)
        if adapter is not None:
            lora = LoraConfig(r=16, target_modules=targets, task_type="CAUSAL_LM")
            model = get_peft_model(model, lora, autocast_adapter_dtype=False)
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.to(adapter)
    base = model if adapter is None else model.get_base_model()
    with FakeTensorMode():
        materialise(model)
        model.train()
        if adapter is not None:
            model.enable_input_require_grads()  # as TRL does with checkpoints; without, the first layer would keep less than the others
        if checkpointed:
            base.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": lambda: (nullcontext(), AutocastOfCuda())})
        words = torch.zeros(ROWS, LENGTH, dtype=torch.long)
        with AutocastOfCuda(), Counter(model) as counter:
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
