"""How an adapter may begin (peft's init_lora_weights), and where that cannot be right."""

from collections.abc import Iterator, Mapping
from typing import Any

from tuitune.recipe.problems import KeyPath

MEASURED = ("dpo", "kto", "grpo", "rloo", "online_dpo")  # tasks that may measure against the model without its adapter
_NOT_BUILT = {
    "eva": "it needs a pass over the data before the adapter is made",
    "corda": "it needs a pass over the data before the adapter is made",
    "lora_ga": "it needs gradients of the data before the adapter is made",
    "loftq": "it trains on a base whose weights are rounded in memory, and the adapter would not fit the base that is on disk",
}


def changes_base(start: object) -> bool:
    """Whether the weights below the adapter are changed when it is made (PiSSA, OLoRA): what is learnt is only right with both."""
    return isinstance(start, str) and (start.lower().startswith("pissa") or start.lower() == "olora")


def refused_starts(peft: Mapping[str, Any], task: object, quantized: bool) -> Iterator[tuple[KeyPath, str]]:
    """Why `peft:` cannot begin like this."""
    start, path = peft.get("init_lora_weights"), ("peft", "init_lora_weights")
    if isinstance(start, str) and start.lower() in _NOT_BUILT:
        yield path, f"init_lora_weights {start} is not built: {_NOT_BUILT[start.lower()]}; leave it out, or take pissa or olora"
    if not changes_base(start):
        if start == "mica" and quantized:
            yield path, "init_lora_weights mica takes the weights apart, and 4 or 8 bits cannot be; leave it out or remove `quantization:`"
        return
    if quantized:
        yield (
            path,
            (
                f"init_lora_weights {start} takes part of the base into the adapter, which 4 or 8 bits cannot do exactly: the adapter "
                "would not fit the base that is on disk; leave it out, or remove `quantization:`"
            ),
        )
    if peft.get("use_dora") is True:
        yield path, f"init_lora_weights {start} with use_dora cannot be saved as an adapter of the unchanged base; leave out one of the two"
    if task in MEASURED:
        yield (
            path,
            (
                f"init_lora_weights {start} takes part of the base into the adapter, and task {task} measures against the base by leaving "
                "the adapter out; leave init_lora_weights out"
            ),
        )
