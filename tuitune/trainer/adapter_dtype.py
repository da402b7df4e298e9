"""The type of the adapter's weights, and of what they are multiplied with."""

from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora import LoraLayer

from tuitune.trainer.adapter_first import compute_adapter_first
from tuitune.trainer.box import FillIn, why_inputs_are_cast
from tuitune.trainer.new_tokens import join_types

if TYPE_CHECKING:
    from tuitune.trainer.build import Built

LOSES = "bfloat16 adapters lose small updates to rounding"


def set_adapter_dtype(built: "Built") -> None:
    """Adapter weights in `launch.adapter_dtype`. TRL leaves 4-bit runs' adapters in bfloat16, where AdamW rounds small updates away
    (training-facts.md 1.3), so the default is float32; "trl" keeps what TRL and peft make.

    peft casts what an adapter reads to the type of its weights (tuners/lora/layer.py), and autocast casts it back: two copies of every
    input for the same product. They are left out where everything that reads the adapter runs under autocast; so is a product that would
    be computed again for nobody (tuitune.trainer.adapter_first).
    """
    recipe, trainer = built.recipe, built.trainer
    wanted = recipe.launch.get("adapter_dtype")
    amp = bool(trainer.args.bf16 or trainer.args.fp16)
    cast = why_inputs_are_cast(recipe.task, wanted, amp=amp)
    if wanted in (None, "auto"):
        wanted = "float32"
        built.filled["launch", "adapter_dtype"] = FillIn(wanted, LOSES if cast else f"{LOSES}; its inputs stay in 16 bits")
    if wanted != "trl":
        dtype = getattr(torch, wanted)
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)
    if not cast:
        leave_inputs(trainer.model)
        compute_adapter_first(trainer.model)
    join_types(trainer.model)


def leave_inputs(model: Any) -> None:
    """No adapter of a plain LoRA layer casts its input any more: peft's own switch (peft.helpers.disable_input_dtype_casting), for good."""
    for module in model.modules():
        if isinstance(module, LoraLayer) and not module.lora_variant:  # DoRA and the like compute with the input in other ways too
            module.cast_input_dtype_enabled = False
