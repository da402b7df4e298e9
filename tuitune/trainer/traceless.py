"""Run a trainer's own steps as if they had never been: `without_trace` for everything a step changes, `stepped` for the optimizer.

What a step writes, read in transformers 5, TRL 1.16, peft and bitsandbytes: gradients; random states (dropout); the trainer's counters and
metrics; train or eval mode and other plain attributes of modules; buffers (rotary frequencies that follow the longest row seen); the
weights and the optimizer's states. Each is put back. Frozen weights are not written by anything.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from tuitune.trainer.control import random_state_kept

SIMPLE = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
SPARE_RAM = 2  # a copy of the trained weights may take half of the RAM that is free


@contextmanager
def without_trace(trainer: Any) -> Iterator[None]:
    """The trainer and its model are after the block what they were before it, its gradients None, its weights apart: who steps the
    optimizer uses `stepped` inside."""
    model = trainer.model_wrapped
    modules = [(module, _simple(module)) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer._version, buffer.detach().to("cpu", copy=True))
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    own = {name: copy.deepcopy(value) for name, value in vars(trainer).items() if _is_plain(value)}
    with random_state_kept():
        try:
            yield
        finally:
            model.zero_grad(set_to_none=True)
            for module, name, buffer, version, values in buffers:
                if buffer._version != version:
                    with torch.no_grad():
                        buffer.copy_(values)
                module._buffers[name] = buffer
            for module, attributes in modules:
                _put_back(module, attributes, _simple(module))
            _put_back(trainer, own, {name: value for name, value in vars(trainer).items() if _is_plain(value)})


def why_not_stepped(optimizer: Any) -> str | None:
    """Why this optimizer's first step cannot be measured and undone exactly, or None when it can."""
    inner = _inner(optimizer)
    package = type(inner).__module__.partition(".")[0]
    if inner.state:
        return "its states are loaded already"
    if getattr(inner, "is_paged", False):
        return "states in managed memory are never given back"
    if package not in ("torch", "bitsandbytes"):
        return f"what {type(inner).__name__} of {package} keeps outside of its states is not known"
    weights = sum(weight.numel() * weight.element_size() for weight in _weights(inner))
    if weights * SPARE_RAM > psutil.virtual_memory().available:
        return f"RAM is short for a copy of the trained weights ({weights >> 20} MiB)"
    return None


def zero_gradients(optimizer: Any) -> None:
    """Give every trained weight a gradient of zeros, as it has between the micro-batches of one update."""
    for weight in _weights(_inner(optimizer)):
        weight.grad = torch.zeros_like(weight)


@contextmanager
def stepped(optimizer: Any) -> Iterator[None]:
    """One step of the real optimizer with the gradients that are there; its states exist in the block. After it weights, states and
    settings are what they were: the weights come back from copies in RAM, the states of a first step are dropped.

    Only for an optimizer that `why_not_stepped` lets pass. (The gradient scaler of float16 takes no part, so that its scale stays.)
    """
    inner = _inner(optimizer)
    with torch.no_grad():
        kept = [_own(weight).to("cpu", copy=True) for weight in _weights(inner)]
    groups = [{name: copy.deepcopy(value) for name, value in group.items() if name != "params"} for group in inner.param_groups]
    attributes = _simple(inner)
    try:
        inner.step()
        yield
    finally:
        inner.state.clear()
        with torch.no_grad():
            for weight, values in zip(_weights(inner), kept, strict=True):
                _own(weight).copy_(values)
        for group, values in zip(inner.param_groups, groups, strict=True):
            for name in set(group) - set(values) - {"params"}:
                del group[name]
            group.update(values)
        _put_back(inner, attributes, _simple(inner))


def _inner(optimizer: Any) -> Any:
    """The optimizer inside of accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def _weights(optimizer: Any) -> list[torch.nn.Parameter]:
    return [weight for group in optimizer.param_groups for weight in group["params"] if weight.requires_grad]


def _own(weight: Any) -> Any:
    """The weight, or this rank's share of one that is spread (a DTensor)."""
    return weight.to_local() if hasattr(weight, "to_local") else weight


def _simple(owner: Any) -> dict[str, Any]:
    """Attributes that cannot be changed in place."""
    return {name: value for name, value in vars(owner).items() if isinstance(value, SIMPLE)}


def _put_back(owner: Any, before: dict[str, Any], now: dict[str, Any]) -> None:
    for name in now.keys() - before.keys():
        delattr(owner, name)
    for name, value in before.items():
        if name not in now or now[name] is not value:
            setattr(owner, name, value)


def _is_plain(value: Any) -> bool:
    """Whether a value is made of numbers, words and containers only, so that a copy of it is the same."""
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(inner) for key, inner in value.items())
    if isinstance(value, list | tuple | set):
        return all(_is_plain(inner) for inner in value)
    return isinstance(value, SIMPLE)
