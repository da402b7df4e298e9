"""A lever of tests.bench.throughput (+product), not of the product yet: no GPU has run it. The adapter's part of a linear layer, added by
the product that computes it.

    peft:  result + lora_B(lora_A(x)) * scaling      three passes over the whole output, and the gradient is scaled once more
    here:  result += scaling · lora_A(x) · Bᵀ         one product, which reads the base layer's output and writes the sum over it

The same numbers but for the rounding of two results that are not written any more. On one H200 additions took 12 % and scaling 8 % of the
GPU's time (1.5B, LoRA, 8 × 2048 tokens, Liger). It goes in where peft lets variants such as DoRA replace the forward pass; only while
training, so nothing of merging is asked of it.
"""

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Linear, LoraVariant

from tuitune.trainer.box import Box


class AddedByTheProduct(LoraVariant):  # type: ignore[misc]
    """Plain LoRA. Stateless: peft calls it with the layer."""

    @staticmethod
    def forward(module: Any, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """`result` (rows, tokens, features), which is nobody else's, with the adapter's part in it."""
        read = module.lora_A[active_adapter](module.lora_dropout[active_adapter](x))
        back, scaling = module.lora_B[active_adapter], module.scaling[active_adapter]
        if read.dtype != result.dtype or result.dim() != 3:  # outside of autocast
            return result + back(read) * scaling
        weight = back.weight.to(read.dtype).T.expand(len(read), -1, -1)
        return result.baddbmm_(read, weight, alpha=scaling)


def add_by_product(model: torch.nn.Module, box: Box, strategy: str) -> int:
    """Every plain LoRA layer over a 16-bit or 4-bit one adds like that from now on; how many there are.

    On the CPU, whose sums are to stay those of peft to the bit, and where FSDP or DeepSpeed gather the weights, it is none.
    """
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return sum(map(_add_by_product, layers)) if box.cuda and strategy == "ddp" else 0


def _add_by_product(layer: Any) -> bool:
    """Whether it does now. The base layer's output must be the layer's alone: torch's Linear makes it, and peft copies what bitsandbytes'
    4-bit product returns, a view that may not be written to."""
    if "forward" in vars(layer):
        return False  # tuitune.trainer.adapter_first has replaced it
    known = (type(layer) is Linear and type(layer.get_base_layer()) is torch.nn.Linear) or type(layer).__name__ == "Linear4bit"
    plain = known and not layer.lora_variant and all(back.bias is None for back in layer.lora_B.values())
    if plain:
        layer.lora_variant.update(dict.fromkeys(layer.lora_B, AddedByTheProduct()))
    return plain
