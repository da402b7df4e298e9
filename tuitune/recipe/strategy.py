"""`launch.strategy`: how several GPUs train one model, and what of a recipe does not go together with it. Imports no torch.

ddp keeps a copy on each; fsdp (FSDP2) and deepspeed (ZeRO) spread weights, gradients and optimizer states over all of them.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from tuitune.recipe.adapter_start import changes_base
from tuitune.recipe.devices import wants_cpu
from tuitune.recipe.problems import KeyPath

Strategy = Literal["ddp", "fsdp", "deepspeed"]
TASKS = ("sft", "dpo")  # that tests/contract/test_fsdp.py trains
PLAIN_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "sgd")  # torch's own, whose states are tensors that can be spread
COMPUTE = "bfloat16"  # what 4-bit weights are stored as under FSDP, and computed in


def strategy_of(launch: Mapping[str, Any]) -> Strategy:
    """What `launch:` says; ddp when it says nothing that is known."""
    found = launch.get("strategy")
    return "fsdp" if found == "fsdp" else "deepspeed" if found == "deepspeed" else "ddp"


def gpus_of(launch: Mapping[str, Any]) -> int:
    """How many GPUs of a machine, so processes on it, `launch.gpus` means; 1 for auto, for the CPU and for what is no number."""
    text = str(launch.get("gpus", "auto"))
    return max(1, int(text)) if text.isascii() and text.isdecimal() else 1


def nodes_of(launch: Mapping[str, Any]) -> int:
    """How many machines `launch.nodes` means; 1 for what is no number."""
    found = launch.get("nodes")
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 1 else 1


def processes_of(launch: Mapping[str, Any]) -> int:
    """How many processes train together: GPUs of a machine times machines."""
    return gpus_of(launch) * nodes_of(launch)


def objections(recipe: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Where and why a recipe (its sections by name, of any type: it may be wrong elsewhere) cannot be trained with its strategy."""
    launch, training = _section(recipe, "launch"), _section(recipe, "training")
    strategy = strategy_of(launch)
    if strategy == "ddp":
        return
    if not wants_cpu(launch, training) and processes_of(launch) < 2:
        message = f"{strategy} spreads one model over several GPUs: say in launch.gpus over how many (2 or more), or take strategy ddp"
        yield ("launch", "strategy"), message
    task = recipe.get("task")
    if task not in TASKS:
        yield ("launch", "strategy"), f"task {task} is not proven with {strategy}: take strategy ddp (proven: {', '.join(TASKS)})"
    optimizer = training.get("optim")
    if optimizer not in (None, "auto", *PLAIN_OPTIMIZERS):
        message = f"the states of {optimizer} cannot be spread over GPUs: take {PLAIN_OPTIMIZERS[1]}, or launch.strategy: ddp"
        yield ("training", "optim"), message
    if _section(recipe, "tokenizer").get("add_special_tokens"):
        message = f"new tokens are not proven with launch.strategy {strategy}: train them with ddp"
        yield ("tokenizer", "add_special_tokens"), message
    start = _section(recipe, "peft").get("init_lora_weights")
    if changes_base(start):
        message = f"init_lora_weights {start} is made plain when the result is saved, which spread weights do not allow: take ddp"
        yield ("peft", "init_lora_weights"), message
    yield from _quantised(_section(recipe, "quantization"), strategy)


def _quantised(quantization: Mapping[str, Any], strategy: Strategy) -> Iterator[tuple[KeyPath, str]]:
    if quantization.get("load_in_8bit"):
        message = f"8-bit weights cannot be spread over GPUs: take load_in_4bit with fsdp, or strategy ddp instead of {strategy}"
        yield ("quantization", "load_in_8bit"), message
    if not quantization.get("load_in_4bit"):
        return
    if strategy == "deepspeed":
        yield ("quantization", "load_in_4bit"), "4-bit weights are spread by fsdp, or copied by ddp; deepspeed does neither"
    for key in ("bnb_4bit_quant_storage", "bnb_4bit_compute_dtype"):
        written = quantization.get(key)
        if strategy == "fsdp" and written not in (None, COMPUTE):
            message = f"fsdp spreads 4-bit weights only when they are stored as what it computes in: {key}: {COMPUTE}, not {written}"
            yield ("quantization", key), message


def _section(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = recipe.get(name)
    return section if isinstance(section, Mapping) else {}
