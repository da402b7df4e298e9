"""Which TRL classes a recipe's `task` stands for."""

from dataclasses import dataclass
from typing import Any

from tuitune.errors import UserError
from tuitune.recipe.unbuilt import unbuilt


@dataclass(frozen=True)
class Method:
    """`shapes`: what its rows may be (tuitune.dataset.columns); `sequence_model`: scores a text instead of continuing it;
    `needs`: columns beside the shape's own."""

    config: type[Any]
    trainer: type[Any]
    shapes: tuple[str, ...]
    sequence_model: bool = False
    needs: tuple[str, ...] = ()

    @property
    def lora_task(self) -> str:
        """peft's name for what the adapter sits on."""
        return "SEQ_CLS" if self.sequence_model else "CAUSAL_LM"


def method_for(task: str) -> Method:
    """The classes for a task; UserError for one that this version does not train."""
    import trl

    if task == "sft":
        return Method(trl.SFTConfig, trl.SFTTrainer, ("messages", "prompt-completion", "text"))
    if task == "dpo":
        return Method(trl.DPOConfig, trl.DPOTrainer, ("preference",))
    if task == "kto":
        return Method(trl.KTOConfig, trl.KTOTrainer, ("prompt-completion",), needs=("label",))
    if task == "reward":
        return Method(trl.RewardConfig, trl.RewardTrainer, ("preference",), sequence_model=True)
    refused = next(wish for wish in unbuilt({"task": task}) if wish.severity == "error")
    raise UserError(refused.message)
