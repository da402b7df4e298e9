"""Which TRL classes a recipe's `task` stands for."""

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tuitune.errors import UserError
from tuitune.recipe.tasks import PAIRED, PROMPTED, TASKS
from tuitune.recipe.unbuilt import unbuilt
from tuitune.text import printable

# task → module and the beginning of TRL's names in it; those of trl.experimental may change with any release
CLASSES = {
    "sft": ("trl", "SFT"),
    "dpo": ("trl", "DPO"),
    "kto": ("trl", "KTO"),
    "reward": ("trl", "Reward"),
    "grpo": ("trl", "GRPO"),
    "rloo": ("trl", "RLOO"),
    "orpo": ("trl.experimental.orpo", "ORPO"),
    "cpo": ("trl.experimental.cpo", "CPO"),
    "online_dpo": ("trl.experimental.online_dpo", "OnlineDPO"),
}
NEEDS = {"kto": ("label",)}


@dataclass(frozen=True)
class Method:
    """`shapes`: what its rows may be (tuitune.dataset.columns); `sequence_model`: scores a text instead of continuing it;
    `needs`: columns beside the shape's own; `rewarded`: it answers while it trains, and reward functions judge that;
    `evaluates`: its trainer has an evaluation."""

    config: type[Any]
    trainer: type[Any]
    shapes: tuple[str, ...]
    sequence_model: bool = False
    needs: tuple[str, ...] = ()
    rewarded: bool = False
    evaluates: bool = True

    @property
    def lora_task(self) -> str:
        """peft's name for what the adapter sits on."""
        return "SEQ_CLS" if self.sequence_model else "CAUSAL_LM"


def method_for(task: str) -> Method:
    """The classes for a task; UserError for one that this version does not train."""
    if task not in TASKS:
        refused = next(wish for wish in unbuilt({"task": task}) if wish.severity == "error")
        raise UserError(refused.message)
    where, name = CLASSES[task]
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # `tuitune validate` says that it is experimental
    try:
        module = import_module(where)
        config, trainer = getattr(module, f"{name}Config"), getattr(module, f"{name}Trainer")
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"task {task}: the installed TRL has no {name}Trainer in {where} ({printable(str(error), limit=160)}); install the versions of "
            "constraints.txt"
        ) from error
    return Method(
        config,
        trainer,
        shapes(task),
        sequence_model=task == "reward",
        needs=NEEDS.get(task, ()),
        rewarded=task in PROMPTED,
        evaluates=task != "online_dpo",  # its trainer inherits an evaluation that wants labels
    )


def shapes(task: str) -> tuple[str, ...]:
    """What its rows may be, as tuitune.dataset.load.Split.format calls them."""
    if task == "sft":
        return ("messages", "prompt-completion", "text")
    if task in PAIRED:
        return ("preference",)
    return ("prompt",) if task in PROMPTED else ("prompt-completion",)
