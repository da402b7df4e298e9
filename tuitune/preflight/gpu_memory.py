"""Checks of the memory plan against the card (the other half of section I): what others leave of it, and whether it is large enough."""

from collections.abc import Iterator
from typing import Any

from tuitune.memory.advice import WITHIN, Advice
from tuitune.preflight.box_context import BoxContext
from tuitune.preflight.cards import GIB
from tuitune.preflight.finding import Found, NotHere, Where
from tuitune.preflight.needs import GpuNeed
from tuitune.preflight.registry import Stage, check
from tuitune.preflight.sizes import gib
from tuitune.recipe.devices import wants_cpu
from tuitune.recipe.values import as_yaml
from tuitune.text import printable

FOREIGN = GIB // 2  # bytes of somebody else on a card that are worth a word
TOLD = 3  # pieces of advice in a finding; `tuitune plan` has all


@check("ENV03", "warning", "somebody else uses the GPU", Stage.BOX)
def gpu_occupied(context: BoxContext) -> Iterator[Found]:
    """Other processes hold memory of the card, and what is left may not be enough; or the card takes one process only and has one.

    Rule: free memory < the planned peak (without a plan: < what weights and their training need at the very least + 10 %), or more than
    0.5 GiB are held by others.
    Do: wait, ask the owner, choose another card with CUDA_VISIBLE_DEVICES, or change the recipe as the finding says.
    Known from: NVML (nvmlDeviceGetMemoryInfo, nvmlDeviceGetComputeRunningProcesses), the memory plan (`tuitune plan`).
    """
    context.gpu_wanted()
    devices = context.box.devices
    if not devices:
        raise NotHere("there is no GPU here")
    states = [_state(device, context.need, device["index"] in context.box.exclusive) for device in devices]
    if context.asked and any(state is None for state in states):
        return  # a run takes the free one
    for device, state in zip(devices, states):
        if state is not None:
            severity, sentence = state
            held = [f"{_owner(other)}: {gib(other['mem']) if other['mem'] else 'an unknown amount'}" for other in device["others"]]
            needed = context.need.bytes if context.need else None
            yield Found(sentence, Where(), {"gpu": device["index"], "others": held, "needed": needed}, severity=severity)


def _state(device: dict[str, Any], need: GpuNeed | None, exclusive: bool) -> tuple[Any, str] | None:
    """(severity, sentence) for a card that is not free, None for one that is."""
    name = f"GPU {device['index']} ({device['name']})"
    others = device["others"]
    who = ", ".join(_owner(other) for other in others) or "a process that NVML does not show"
    if exclusive and others:
        return "error", f"{name} takes one process at a time and {who} has it: wait for it to end, or choose another card"
    if device["mem_total"] is None or device["mem_used"] is None:
        return None
    free, total = device["mem_total"] - device["mem_used"], device["mem_total"]
    foreign = sum(other["mem"] or 0 for other in others)
    if need is not None and free < need.bytes * (1 if need.plan else 1.1) <= total:
        held = f"; {who} holds {gib(foreign or device['mem_used'])}" if others or device["mem_used"] > FOREIGN else ""
        return "warning", (
            f"{name} has {gib(free)} of {gib(total)} free, this run {_needs(need)}{held}: it will run out of memory. Free the card, or "
            f"train with less: {_less(need, free)}"
        )
    if foreign > FOREIGN or (not others and device["mem_used"] > max(FOREIGN, total // 10)):
        return "warning", (
            f"{name}: {gib(foreign or device['mem_used'])} of {gib(total)} is held by {who}; {gib(free)} are left, and the two will "
            "slow each other down. Wait, ask its owner, or choose another card with CUDA_VISIBLE_DEVICES"
        )
    return None


def _owner(other: dict[str, Any]) -> str:
    if other["name"] == "hidden":
        return f"pid {other['pid']} (outside this container)"
    return f"{other['name'] or 'a process'} of {other['user'] or 'somebody'} (pid {other['pid']})"


@check("ENV11", "warning", "the run does not fit on the GPU", Stage.BOX)
def card_too_small(context: BoxContext) -> Iterator[Found]:
    """The peak of this run is larger than the memory of the card that it is meant for, this box's or one that --gpu names: it will run out
    of memory, in the first step or, where rows are of different lengths, hours later.

    Rule: the memory plan's peak (without a plan: weights and their training alone) > the card's memory.
    Do: change the recipe as the finding says; `tuitune plan` shows the peak by component, all advice, and what other cards have.
    Known from: the memory plan, within 3 % of the peaks measured on an H200.
    """
    card, asked = context.card, context.asked
    if asked is None or wants_cpu(asked.recipe.launch, asked.recipe.training):
        raise NotHere("there is no run on a GPU to be planned")
    if not card.gpu or card.memory is None:
        raise NotHere("nobody says how much memory the card has")
    need = context.need
    if need is None:
        raise NotHere("there is no plan for this model, and its weights are not here to be counted")
    if need.bytes > card.memory:
        advice = need.plan.advice(card.memory) if need.plan else []
        key = next(iter(advice[0].change.values)) if advice else "training"
        yield Found(
            f"{printable(card.name)} has {gib(card.memory)}, this run {_needs(need)}: it will run out of memory. Train with less: "
            f"{_less(need, card.memory)}",
            context.at(*key.split(".")),
            {"memory": card.memory, "needed": need.bytes, "planned": need.plan is not None},
        )


def _needs(need: GpuNeed) -> str:
    if need.plan is None:
        return f"needs more than {gib(need.bytes)} for weights and their training alone"
    return f"is planned to need {gib(need.bytes)} at its peak ({need.plan.made.peak})"


def _less(need: GpuNeed, room: int) -> str:
    """The first pieces of advice, in words."""
    advice = need.plan.advice(room) if need.plan else []
    if not advice:
        return "quantization, or a smaller model"
    told, last = advice[:TOLD], advice[-1].plan.needed
    steps = ", then ".join(f"{_change(one)} ({gib(one.plan.needed)})" for one in told)
    more = f", and {len(advice) - TOLD} more" if len(advice) > TOLD else ""
    end = "" if last <= room * WITHIN else f"; even with all of it, {gib(last)} are needed: take a smaller model too"
    return f"{steps}{more}{end}. `tuitune plan` shows all of it"


def _change(advice: Advice) -> str:
    return " with ".join(f"{key}: {as_yaml(value)}" for key, value in advice.change.values.items())
