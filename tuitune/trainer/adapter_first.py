"""A recomputed layer ends before its last product, whose result nobody needs.

torch stops computing a layer again as soon as all that its backward pass reads is there. Nothing reads what down_proj has made, a quarter
of the layer's arithmetic; but peft computes it before the adapter's part, and that is read. Here the adapter's part comes first, so what
torch waits for is there before the product. The sum is peft's, to the bit.

Only over 4-bit weights: a 16-bit product saves its weight when it is done, and torch waits for that as well.
"""

from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

LAST = "down_proj"  # the last product of a decoder layer, by the name that Llama's relatives give it


def compute_adapter_first(model: torch.nn.Module) -> int:
    """Every last product over 4-bit weights with a plain LoRA adapter does so from now on; how many there are."""
    layers = [module for name, module in model.named_modules() if name.endswith(f".{LAST}") and _is_plain(module)]
    for layer in layers:
        layer.forward = partial(_forward, layer)
    return len(layers)


def _is_plain(module: Any) -> bool:
    return isinstance(module, LoraLayer) and type(module).__name__ == "Linear4bit" and not module.lora_variant


def _forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    active = layer.active_adapters
    plain = len(active) == 1 and active[0] in layer.lora_A and not (layer.disable_adapters or layer.merged or args or kwargs)
    if not plain or not torch.is_autocast_enabled(x.device.type):
        own: torch.Tensor = type(layer).forward(layer, x, *args, **kwargs)
        return own
    (name,) = active
    update = layer.lora_B[name](layer.lora_A[name](layer.lora_dropout[name](x))) * layer.scaling[name]
    base: torch.Tensor = layer.base_layer(x)
    return base + update.to(base.dtype)
