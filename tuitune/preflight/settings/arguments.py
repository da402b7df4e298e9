"""Checks of single arguments of `training:` and `launch:`."""

from collections.abc import Iterator
from typing import Any

from tuitune.hub.lease import candidates
from tuitune.preflight.box_context import BoxContext
from tuitune.preflight.context import DocumentContext, default_of
from tuitune.preflight.finding import Change, Fix, Found
from tuitune.preflight.registry import Stage, check

UNKNOWN = ("RCP011", "RCP012", "RCP013", "RCP020")  # unknown, renamed or removed, at home in another section, deprecated
KWARGS = "activation_checkpointing_kwargs"


@check("TRN03", "error", "an argument the installed trainer does not have", Stage.RECIPE)
def unknown_argument(context: DocumentContext) -> Iterator[Found]:
    """A key of `training:` is no field of the installed config: removed, renamed or misspelt, and TRL would raise TypeError.

    Do: take the name that is offered; `tuitune check --fix` writes it.
    Known from: dataclasses.fields of the installed config (transformers 5 removed max_seq_length, evaluation_strategy, warmup_ratio …).
    """
    yield from context.told(UNKNOWN, ("training",))


@check("TRN06", "warning", "packing that mixes, cuts or fails", Stage.RECIPE, Stage.MODEL)
def packing(context: Any) -> Iterator[Found]:
    """packing_strategy wrapped cuts rows anywhere and lets every token see the row before it. bfd and bfd_split keep rows apart, in most
    models: with ALiBi (BLOOM) or a state (Mamba) they leak; that is tried on the model's own class. packing without max_length and
    padding_free with max_length but without packing are refused by TRL.

    Do: packing_strategy: bfd_split, which splits what is too long and loses nothing.
    Known from: trl#3067, #5316, transformers#46634; preflight-checks.md A.9.
    """
    if not isinstance(context, DocumentContext):
        yield from _leaks(context)
        return
    section, task = context.section("training"), context.document.data.get("task")
    if task not in (None, "sft"):
        return
    packed = section.get("packing") is True
    if packed and section.get("packing_strategy") == "wrapped":
        yield Found(
            "packing_strategy wrapped cuts rows anywhere and lets each token see the row before it in the sequence: the model learns "
            "transitions that no row has. Write bfd_split",
            context.at("training", "packing_strategy"),
            {"packing_strategy": "wrapped"},
            Fix("Write `packing_strategy: bfd_split`", automatic=True, changes=(Change(("training", "packing_strategy"), "bfd_split"),)),
        )
    if packed and "max_length" in section and section["max_length"] is None:
        yield Found(
            "packing needs a length to fill, and max_length is null: TRL refuses the run. Write how many tokens a sequence has",
            context.at("training", "max_length"),
            {"packing": True, "max_length": None},
            Fix("Remove `max_length`: the default holds", changes=(Change(("training", "max_length"), remove=True),)),
            "error",
        )
    length = section.get("max_length", default_of("sft", "max_length"))
    if section.get("padding_free") is True and not packed and length is not None:
        yield Found(
            f"padding_free without packing does not cut rows to max_length ({length}), so TRL refuses both together. Take it out",
            context.at("training", "padding_free"),
            {"padding_free": True, "packing": False, "max_length": length},
            Fix("Remove `padding_free`", changes=(Change(("training", "padding_free"), remove=True),)),
            "error",
        )


def _leaks(context: Any) -> Iterator[Found]:
    if context.recipe.task != "sft" or not context.setting("packing") or context.setting("packing_strategy") == "wrapped":
        return
    apart, why = context.documents_apart
    if apart == "no":
        name = context.model.config.get("model_type", "this model")
        yield Found(
            f"packed rows see each other in {name}: {why}. Write packing: false",
            context.at("training", "packing"),
            {"model_type": name, "tried": why},
            Fix("Write `packing: false`", changes=(Change(("training", "packing"), False),)),
        )


@check("TRN11", "warning", "reentrant checkpointing", Stage.RECIPE)
def reentrant(context: DocumentContext) -> Iterator[Found]:
    """use_reentrant: true is the old way of activation checkpointing: it needs gradients at the inputs (an adapter alone has none, TRL
    switches them on), breaks with some models, and is refused together with selective.

    Do: leave use_reentrant out.
    Known from: peft#1142, transformers#26221, #42489, trl#3089.
    """
    section = context.section("training")
    written = section.get(KWARGS)
    if not isinstance(written, dict) or written.get("use_reentrant") is not True or section.get("activation_checkpointing") is False:
        return
    name = KWARGS if ("training", KWARGS) in context.document.entries else "gradient_checkpointing_kwargs"
    rest = {key: value for key, value in written.items() if key != "use_reentrant"}
    fix = Fix("Take `use_reentrant` out", changes=(Change(("training", name), rest, remove=not rest),))
    where, evidence = context.at("training", name), {name: written}
    if written.get("selective"):
        message = "use_reentrant: true and selective: true exclude each other: TRL refuses the run. Take use_reentrant out"
        yield Found(message, where, evidence, fix, "error")
        return
    message = (
        "use_reentrant: true is the old way of checkpointing, which needs gradients at the inputs and fails with some models. Take it out"
    )
    yield Found(message, where, evidence, fix)


@check("TRN12", "error", "more GPUs than there are", Stage.BOX)
def several_gpus(context: BoxContext) -> Iterator[Found]:
    """launch.gpus asks for more GPUs than are to be seen here: the run would be refused when it starts. (On several it has a process on
    each, never nn.DataParallel, which TRL refuses.)

    Rule: launch.gpus > the GPUs that the driver shows and CUDA_VISIBLE_DEVICES leaves.
    Do: launch.gpus: as many as there are.
    Known from: tuitune.hub.lease.
    """
    context.gpu_wanted()
    wanted = context.asked.recipe.launch.get("gpus") if context.asked else None
    seen = len(candidates(context.box.devices, context.box.environment))
    if isinstance(wanted, int) and wanted > max(1, seen):
        there = f"{seen} {'is' if seen == 1 else 'are'}" if seen else "none is"
        fix = Fix(f"Write `gpus: {seen or 'auto'}`", changes=(Change(("launch", "gpus"), seen or "auto"),))
        message = f"launch.gpus asks for {wanted} GPUs, and {there} to be seen here: the run would be refused"
        yield Found(message, context.at("launch", "gpus"), {"wanted": wanted, "seen": seen}, fix)


@check("TRN14", "info", "a second pass for the loss", Stage.RECIPE)
def second_pass(context: DocumentContext) -> Iterator[Found]:
    """label_smoothing_factor needs all logits: TRL then runs a second forward pass in every step, without its fused head.

    Do: leave it out unless it is needed.
    Known from: trl sft_trainer (deprecated, goes in 2.0).
    """
    smoothing = context.section("training").get("label_smoothing_factor")
    if isinstance(smoothing, int | float) and smoothing > 0 and context.document.data.get("task") == "sft":
        yield Found(
            f"label_smoothing_factor {smoothing:g} costs a second forward pass in every step, with all logits in memory; without it TRL "
            "scores only what counts",
            context.at("training", "label_smoothing_factor"),
            {"label_smoothing_factor": smoothing},
            Fix("Remove `label_smoothing_factor`", changes=(Change(("training", "label_smoothing_factor"), remove=True),)),
        )
