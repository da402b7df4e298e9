"""Checks of what `peft:` says by itself."""

import re
from collections.abc import Iterator
from math import sqrt
from typing import TYPE_CHECKING, Any

from tuitune.preflight.context import Context, DocumentContext
from tuitune.preflight.finding import Change, Fix, Found, NotHere
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext

WEAK, STRONG = 0.25, 4.0  # bounds of the adapter's scaling that people train with
TASK_TYPES = {"reward": "SEQ_CLS"}  # task → peft's task_type; the others are CAUSAL_LM
HEADS = ("lm_head", "embed_out")


def lora(context: Context) -> dict[str, Any]:
    """Section `peft:`. NotHere when there is none."""
    if context.recipe.peft is None:
        raise NotHere("the recipe has no section peft")
    return dict(context.recipe.peft)


def all_linear(title: str = "Write `target_modules: all-linear`") -> Fix:
    """Every linear layer but the head: what fits each architecture."""
    return Fix(title, automatic=True, changes=(Change(("peft", "target_modules"), "all-linear"),))


@check("PEFT02", "error", "an adapter on the output head", Stage.HEADERS)
def head_targeted(context: Context) -> Iterator[Found]:
    """LoRA is asked for on lm_head: TRL computes the loss from the head's own weights, so it refuses the run with a ValueError.

    Rule: the head is named in target_modules, or matched by it as a regular expression, and not taken out by modules_to_save or
    exclude_modules. `all-linear` leaves the head out by itself.
    Do: take it out; a head that must learn new tokens belongs into modules_to_save.
    Known from: trl 1.16, sft_trainer ("Applying a PEFT adapter to `lm_head` is not supported").
    """
    section = lora(context)
    if context.recipe.task == "reward":
        return
    saved = [*(section.get("modules_to_save") or []), *_listed(section.get("exclude_modules"))]
    targets = section.get("target_modules")
    heads = [head for head in HEADS if head not in saved and _targets(targets, head)]
    for head in heads[:1]:  # a pattern may match the head under each of its names
        yield Found(
            f"peft.target_modules puts LoRA on {head}: TRL refuses an adapter on the output head, so the run ends before its first step. "
            "Write all-linear, which leaves the head out",
            context.at("peft", "target_modules"),
            {"target_modules": targets, "head": head},
            all_linear(),
        )


def _targets(targets: object, name: str) -> bool:
    """Whether peft's matching of target_modules takes a module called `name` at the top of the model."""
    if isinstance(targets, list):
        return any(name == one or str(one).endswith(f".{name}") for one in targets)
    if not isinstance(targets, str) or targets.lower() == "all-linear":
        return False
    try:
        return re.fullmatch(targets, name) is not None
    except re.error:
        return False


def _listed(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [value] if isinstance(value, str) else []


@check("PEFT07", "warning", "an adapter that is scaled unusually", Stage.RECIPE, Stage.MODEL)
def scaling(context: "DocumentContext | CheckContext") -> Iterator[Found]:
    """The adapter's output is multiplied by lora_alpha / r (with use_rslora: lora_alpha / sqrt(r)). Far from 1 it learns next to nothing,
    or the learning rate acts many times over and the loss blows up.

    Rule: outside 0.25 to 4 a warning; r below 1 an error; r above half of the smallest layer's width is told as well.
    Do: lora_alpha of r to 2 r.
    Known from: the LoRA and rsLoRA papers; peft.tuners.lora (ValueError for r <= 0).
    """
    if not isinstance(context, DocumentContext):
        yield from _wide(context)
        return
    yield from context.told(("RCP017",), ("peft", "r"), ("peft", "lora_alpha"))
    section = context.section("peft")
    rank, alpha = section.get("r", 8), section.get("lora_alpha", 8)
    if not section or not _is_number(rank) or not _is_number(alpha) or rank < 1 or alpha <= 0:
        return
    rooted = section.get("use_rslora") is True
    scale = alpha / (sqrt(rank) if rooted else rank)
    if WEAK <= scale <= STRONG:
        return
    key = "lora_alpha" if "lora_alpha" in section or "r" not in section else "r"
    effect = "the adapter hardly changes the model" if scale < WEAK else "every update acts that much stronger, and the loss may blow up"
    usual = round(sqrt(rank)) if rooted else rank
    yield Found(
        f"the adapter is scaled by {scale:.3g} (lora_alpha {alpha:g} / {'sqrt of ' if rooted else ''}r {rank:g}): {effect}. "
        f"Usual are lora_alpha {usual} to {2 * usual}",
        context.at("peft", key),
        {"r": rank, "lora_alpha": alpha, "use_rslora": rooted, "scaling": round(scale, 4)},
        Fix(f"Write `lora_alpha: {2 * usual}`", changes=(Change(("peft", "lora_alpha"), 2 * usual),)),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wide(context: "CheckContext") -> Iterator[Found]:
    rank = int(lora(context).get("r", 8))
    narrow = [part for part in context.coverage.parts if part.kind == "trained" and len(part.shape) == 2 and rank > min(part.shape) / 2]
    if narrow:
        part = min(narrow, key=lambda part: min(part.shape))
        yield Found(
            f"r {rank} is more than half of the width of {printable(part.name)} ({part.shape[0]} × {part.shape[1]}): a rank above "
            f"{min(part.shape) // 2} makes the adapter as large as the layer. Write a smaller r, or train the layer whole",
            context.at("peft", "r"),
            {"r": rank, "module": part.name, "shape": list(part.shape), "modules": len(narrow)},
            severity="info",
        )


@check("PEFT10", "info", "dropout in the adapter", Stage.HEADERS)
def dropout(context: Context) -> Iterator[Found]:
    """LoRA on parameters (target_parameters, the experts of a mixture) does not work with lora_dropout: peft raises ValueError. On
    layers it works, and costs a copy and a mask of each layer's input.

    Do: lora_dropout: 0.
    Known from: peft.tuners.lora ("does not work with lora_dropout != 0"); training-facts.md 2 (250 against 180 KB a token and layer).
    """
    section = lora(context)
    share = section.get("lora_dropout") or 0
    if not share:
        return
    fix = Fix("Write `lora_dropout: 0.0`", changes=(Change(("peft", "lora_dropout"), 0.0),))
    where, evidence = context.at("peft", "lora_dropout"), {"lora_dropout": share, "target_parameters": section.get("target_parameters")}
    if section.get("target_parameters"):
        message = (
            f"lora_dropout {share:g} together with target_parameters: peft refuses the adapter with a ValueError. Write lora_dropout: 0"
        )
        yield Found(message, where, evidence, fix, "error")
        return
    message = (
        f"lora_dropout {share:g} keeps a copy and a mask of every adapted layer's input, about 40 % more memory for activations; 0 saves it"
    )
    yield Found(message, where, evidence, fix)


@check("PEFT11", "warning", "an adapter of another kind of task", Stage.RECIPE, Stage.HEADERS)
def task_type(context: DocumentContext | Context) -> Iterator[Found]:
    """inference_mode makes an adapter that nothing trains; a task_type that is not the task's is written into the adapter, and other
    programs then load it round the wrong kind of model.

    Do: leave both out: tuitune sets them.
    Known from: peft (inference_mode true: 0 trainable parameters; AutoPeftModelForCausalLM refuses another task_type).
    """
    if isinstance(context, DocumentContext):
        yield from context.told(("RCP012",), ("peft", "inference_mode"))
        return
    written = lora(context).get("task_type")
    right = TASK_TYPES.get(context.recipe.task, "CAUSAL_LM")
    if written not in (None, "auto", right):
        yield Found(
            f"peft.task_type is {printable(str(written))}, task {context.recipe.task} makes a {right} adapter: it trains, but "
            "AutoPeftModel and servers will load it as another kind of model. Leave task_type out",
            context.at("peft", "task_type"),
            {"task_type": written, "expected": right},
            Fix("Remove `task_type`", changes=(Change(("peft", "task_type"), remove=True),)),
        )
