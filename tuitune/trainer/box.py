"""What depends on the box and is filled in when the recipe leaves it out; every filled-in value carries its reason into the ledger.

Imports no torch: the memory plan fills in the same values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Language models without experts: every layer takes part in every pass.
DENSE = ("llama", "qwen2", "qwen3", "mistral", "gemma3_text", "phi3", "olmo2", "smollm3", "granite")
# Model families whose rows attend as they do alone with our attention over joined rows (tests/contract/test_varlen.py).
JOINABLE = (*DENSE, "qwen3_moe", "mixtral")
# Tasks whose every pass through the adapter runs under autocast (tests/contract/test_adapter_dtype.py); those that let it answer do not.
UNDER_AUTOCAST = ("sft", "dpo", "kto", "reward")
LONGEST_HEAD = 256  # elements of an attention head that PyTorch's flash kernel takes


@dataclass(frozen=True)
class Box:
    """The device that this process trains on."""

    cuda: bool
    name: str
    capability: tuple[int, int]

    @property
    def bfloat16(self) -> bool:
        """Whether the device multiplies bfloat16 in hardware (NVIDIA: compute capability 8.0 and newer)."""
        return self.cuda and self.capability >= (8, 0)


@dataclass(frozen=True)
class FillIn:
    """A value tuitune chose, and why."""

    value: Any
    why: str


def training_fill_ins(written: dict[str, Any], box: Box, checkpoints: Path) -> dict[str, FillIn]:
    """Config arguments for what `training:` does not say."""
    filled: dict[str, FillIn] = {
        "output_dir": FillIn(str(checkpoints), "checkpoints belong into the run directory"),
        "report_to": FillIn("none", "metrics go to the run's journal"),
        "disable_tqdm": FillIn(True, "progress goes to the journal, not as a bar into the log"),
        "logging_nan_inf_filter": FillIn(False, "a loss that is no number must be seen, not smoothed away"),
    }
    if not box.cuda:
        filled["use_cpu"] = FillIn(True, "no CUDA device is visible, or launch.gpus says cpu")
        filled["dataloader_pin_memory"] = FillIn(False, "pinned memory only helps a GPU")
    if not (written.get("bf16") or written.get("fp16")):
        if not box.cuda:
            filled["bf16"] = FillIn(False, "on the CPU the arithmetic stays in the model's own type")
        elif box.bfloat16:
            filled["bf16"] = FillIn(True, f"{box.name} multiplies bfloat16 in hardware")
        else:
            filled["bf16"] = FillIn(False, f"{box.name} (compute capability {box.capability[0]}.{box.capability[1]}) has no bfloat16")
            filled["fp16"] = FillIn(True, f"{box.name} has no bfloat16; float16 with loss scaling instead")
    if "per_device_train_batch_size" in written:
        filled["per_device_eval_batch_size"] = FillIn(
            written["per_device_train_batch_size"], "the training batch: the library's 8 can need more memory than training does"
        )
    return {key: fill for key, fill in filled.items() if key not in written}


def model_dtype(written: str | None, box: Box, full: bool) -> FillIn | None:
    """The type to load weights in when `model.dtype` is absent or auto; None when the recipe says it. `full`: these weights are trained."""
    if written not in (None, "auto"):
        return None
    if full and box.cuda:
        return FillIn("float32", "16-bit weights would round small updates away; products still run in 16 bits")
    if box.bfloat16:
        return FillIn("bfloat16", f"{box.name} multiplies bfloat16 in hardware")
    if box.cuda:
        return FillIn("float16", f"{box.name} has no bfloat16")
    return FillIn("float32", "the CPU computes float32 fastest")


def attention(taken: str) -> FillIn:
    """The attention implementation that transformers took because the recipe names none: sdpa wherever the model's class can."""
    if taken == "sdpa":
        return FillIn(taken, "PyTorch's own fused attention: correct for every layout here and needs no extra package")
    return FillIn(taken, "this model's class has no fused attention of PyTorch's")


def leaves_padding(training: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Whether a recipe leaves it to tuitune if the rows of a micro-batch are joined without padding: it says `auto`, or nothing of it and
    of the attention that would have to keep them apart."""
    written = training.get("padding_free")
    return written == "auto" or (written is None and model.get("attn_implementation") in (None, "auto"))


def why_not_joined(task: str, training: Mapping[str, Any], config: Mapping[str, Any], box: Box) -> str:
    """Why the rows of a micro-batch are not joined without padding where the recipe leaves it to tuitune; "" when they are.

    training: the section as it is written; config: the model's.
    """
    if task != "sft":
        return f"{task} trains on rows beside each other"
    if training.get("packing"):
        return "packing joins them already"
    return why_no_varlen(config, box)


def keeps_apart(task: str, training: Mapping[str, Any], model: Mapping[str, Any], config: Mapping[str, Any], box: Box) -> bool:
    """Whether rows that lie behind each other, joined or packed, are kept apart by attention of ours (tuitune.trainer.varlen), without a
    mask. Sections as written; config: the model's."""
    written = model.get("attn_implementation")
    if written not in (None, "auto"):
        return False
    if leaves_padding(training, model) and not why_not_joined(task, training, config, box):
        return True
    packed = bool(training.get("packing")) and training.get("packing_strategy") != "wrapped"
    behind = task == "sft" and (packed or training.get("padding_free") is True)  # by TRL
    return behind and not why_no_varlen(config, box)


def why_no_varlen(config: Mapping[str, Any], box: Box) -> str:
    """Why this model on this box cannot have that attention; "" when it can."""
    if config.get("model_type") not in JOINABLE:
        return f"model family {config.get('model_type')} is not among those it has been proven for"
    if config.get("attention_dropout"):
        return "this model drops attention weights"
    head = config.get("head_dim") or int(config.get("hidden_size", 0)) // max(int(config.get("num_attention_heads", 1)), 1)
    if head > LONGEST_HEAD:
        return f"its attention heads are {head} wide, and the kernel takes {LONGEST_HEAD}"
    if box.cuda and box.capability < (8, 0):
        return f"{box.name} is older than the kernel wants (compute capability 8.0)"
    return ""


def why_inputs_are_cast(task: str, adapter_dtype: Any, *, amp: bool) -> str:
    """Why peft's adapters cast what they read to the type of their weights; "" when they need not. `amp`: training under autocast."""
    if adapter_dtype == "trl":
        return "launch.adapter_dtype leaves the adapter to TRL and peft"
    if not amp:
        return "without autocast a product's factors have one type"
    return "" if task in UNDER_AUTOCAST else f"{task} reads the adapter outside autocast too"
