"""What of the built model decides the arithmetic of a token: counted here, made FLOPs and MFU of by tuitune.runs.slow.mfu."""

from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from tuitune.trainer.build import Built

COUNTED = ("sft", "reward", "dpo")


def describe_work(built: Built) -> dict[str, Any]:
    """`work` of the `hello` event.

    `weights`: elements of the matrices that every token is multiplied with, the head apart (`head`, 0 where a reward model has none);
    `full`: whether they are trained themselves; `recompute`: share of the layers whose forward pass is done again for the backward one;
    `reference`: whether another model reads every batch too; `why`: why the arithmetic is not counted, None when it is.
    """
    trainer, task = built.trainer, built.recipe.task
    model, config, args = trainer.model, built.trainer.model.config.get_text_config(), built.trainer.args
    weights, head, unknown = _count(model)
    why = None
    if task not in COUNTED:
        why = f"what a step of {task} computes is not counted"
    elif unknown > weights // 10:
        why = "how many of its experts a token takes is not counted"
    checkpointing = bool(getattr(args, "gradient_checkpointing", False) or getattr(args, "activation_checkpointing", False))
    options = getattr(args, "gradient_checkpointing_kwargs", None) or getattr(args, "activation_checkpointing_kwargs", None) or {}
    heads = getattr(config, "num_attention_heads", None) or 0
    return {
        "weights": weights,
        "head": head,
        "layers": getattr(config, "num_hidden_layers", None) or 0,
        "query_width": heads * (getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0)),
        "window": getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None,
        "full": not hasattr(model, "peft_config"),
        "recompute": 1 / (options.get("every_n_layers") or 1) if checkpointing else 0.0,
        "reference": task == "dpo" and not getattr(args, "precompute_ref_log_probs", False),
        "why": why,
    }


def _count(model: Any) -> tuple[int, int, int]:
    """Elements of (linear layers, the head among them apart, other matrices that are no embeddings: stacked experts)."""
    head, inside = model.get_output_embeddings(), model.get_input_embeddings()
    apart = {id(part) for module in (head, inside) if module is not None for part in module.modules()}  # adapted ones are wrapped
    weights = others = 0
    for name, module in model.named_modules():
        if id(module) in apart or "lora_" in name or "original_module" in name:
            continue
        if isinstance(module, torch.nn.Linear):  # bitsandbytes' too, whose packed weights have another size
            weights += module.in_features * module.out_features
        elif isinstance(module, Conv1D):
            weights += module.weight.numel()
        elif not isinstance(module, torch.nn.Embedding):
            others += sum(weight.numel() for weight in module.parameters(recurse=False) if weight.dim() > 1)
    size = getattr(head, "weight", None)
    return weights, (size.numel() if size is not None else 0), others
