"""PiSSA and OLoRA move part of the base's weights into the adapter; what a run leaves is an adapter for the base as it is on disk.

peft's own way: the adapter as it began is kept, and at the end the difference to it becomes a plain LoRA adapter of twice the rank
(save_pretrained(path_initial_model_for_weight_conversion=…)). Checkpoints keep the adapter as it is trained, for resuming.
"""

from pathlib import Path
from typing import Any

from tuitune.recipe.adapter_start import changes_base

BEGAN = "adapter-as-it-began"  # in the run directory


def base_is_changed(model: Any) -> bool:
    """Whether the weights below the adapter are not those of the base model."""
    return any(changes_base(getattr(config, "init_lora_weights", None)) for config in getattr(model, "peft_config", {}).values())


def keep_beginning(model: Any, run: Path) -> None:
    """Before the first step of a run; a later attempt finds it there."""
    if base_is_changed(model) and not (run / BEGAN).exists():
        partial = run / f".{BEGAN}"
        model.save_pretrained(str(partial))
        partial.rename(run / BEGAN)


def save_plain(model: Any, run: Path, target: Path) -> None:
    """Over the adapter in `target`: one that fits the unchanged base. The model's own configuration is that of the new one afterwards, so
    this comes last."""
    if base_is_changed(model):
        model.save_pretrained(str(target), path_initial_model_for_weight_conversion=str(run / BEGAN))
