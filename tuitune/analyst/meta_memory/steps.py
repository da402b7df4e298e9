"""Runs steps of a model without memory and reads off what each layer keeps and needs. Bytes."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from tuitune.analyst.meta_memory.counter import Counter
from tuitune.analyst.meta_memory.model import materialise
from tuitune.analyst.meta_memory.stand_ins import AutocastOfCuda, kernels_of_cuda

ROWS = 8


@dataclass
class Seen:
    """`layers`: kept by each layer; the last one's still holds its input, which its caller does. `moments`: the most that the backward
    pass of each held beyond what it (or, checkpointed, nobody) had kept. `kept`: by the whole forward pass, its output not counted.
    `whole`, `norm` as in tuitune.memory.measured.Footprint; `evaluation`: the most of a forward pass without gradients."""

    layers: list[int]
    moments: list[int]
    kept: int
    whole: int
    norm: int
    evaluation: int = 0


class Step:
    """One forward and backward pass of the decoder of `model` over ROWS rows of `length` tokens. `layers`: its decoder layers in order."""

    def __init__(self, model: Any, layers: Sequence[Any], *, adapted: bool, amp: bool, length: int) -> None:
        self.model, self.layers, self.adapted, self.amp, self.length = model, layers, adapted, amp, length
        self.decoder = (model.get_base_model() if adapted else model).base_model

    def train(self) -> Seen:
        """What is kept and needed. Call under FakeTensorMode."""
        self.entries: list[int] = []  # live bytes when each layer begins
        self.begun: list[tuple[int, int, int]] = []  # layer, live bytes when its gradient came, size of that
        self.peaks: list[int] = []
        self.forwards = True
        hooks = [layer.register_forward_pre_hook(self._enters, with_kwargs=True) for layer in self.layers]
        hooks += [layer.register_forward_hook(self._leaves(at)) for at, layer in enumerate(self.layers)]
        try:
            with Counter(self.model) as counter:
                self.counter = counter
                output = self._forward()
                gc.collect()
                size = _bytes(output)
                kept = counter.live - size
                gradient = torch.empty_like(output)
                self.forwards, before, counter.peak = False, counter.live, 0
                output.backward(gradient)
                self.peaks.append(counter.peak)
            return self._seen(kept, before)
        finally:
            for hook in hooks:
                hook.remove()

    def evaluate(self) -> int:
        """The most bytes of a forward pass without gradients. Nothing is trained any more then: autocast would keep casts of what is."""
        self.model.eval().requires_grad_(False)
        with torch.no_grad(), Counter(self.model) as counter:
            self._forward()
            return int(counter.peak)

    def _forward(self) -> Any:
        words = torch.zeros(ROWS, self.length, dtype=torch.long)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.amp):
            return self.decoder(input_ids=words, use_cache=False).last_hidden_state

    def _enters(self, module: Any, args: Any, kwargs: Any) -> None:
        if self.forwards:
            stream = args[0] if args else kwargs["hidden_states"]
            if not self.entries and stream.requires_grad:
                stream.register_hook(lambda gradient: self._arrives(-1, gradient))  # what follows is the embedding's
            self.entries.append(self.counter.live)
            self.stream = _bytes(stream)

    def _leaves(self, at: int) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            if self.forwards:
                stream = output if isinstance(output, torch.Tensor) else output[0]
                stream.register_hook(lambda gradient: self._arrives(at, gradient))
                self.left = self.counter.live

        return hook

    def _arrives(self, at: int, gradient: Any) -> None:
        self.peaks.append(self.counter.peak)
        self.counter.peak = self.counter.live
        self.begun.append((at, self.counter.live, _bytes(gradient)))

    def _seen(self, kept: int, before: int) -> Seen:
        ends = [*self.entries[1:], self.left]
        each = [end - entry for entry, end in zip(self.entries, ends, strict=True)]
        found = Seen(each, [0] * len(each), kept, whole=self.entries[0] - self.stream, norm=self.peaks[0] - before)
        for (at, live, incoming), peak in zip(self.begun, self.peaks[1:], strict=True):
            if at >= 0:
                found.moments[at] = peak - (live - incoming)
        return found


def _bytes(tensor: torch.Tensor) -> int:
    return int(tensor.numel() * tensor.element_size())


@contextmanager
def mask_of(masked: bool, length: int) -> Iterator[None]:
    """Attention through SDPA gets a mask, or none, whatever the rows are: telling padding would need their numbers."""

    def mask(*_: Any, **__: Any) -> Any:
        return torch.ones(ROWS, 1, length, length, dtype=torch.bool) if masked else None

    AttentionMaskInterface.register("sdpa", mask)
    try:
        yield
    finally:
        AttentionMaskInterface.register("sdpa", sdpa_mask)


def take_steps(
    model: Any, layers: Sequence[str], *, adapted: bool, amp: bool, masked: bool, lengths: Sequence[int]
) -> list[tuple[Seen, Seen]]:
    """For each length: what is seen without checkpoints (and in evaluation), and with them. `model` is on the meta device, and is used
    up."""
    with FakeTensorMode(), kernels_of_cuda():
        materialise(model)
        model.train()
        base = model.get_base_model() if adapted else model
        modules = [base.get_submodule(name) for name in layers]
        if adapted:
            model.enable_input_require_grads()  # as TRL does with checkpoints; without, the first layer would keep less than the others
        steps = [Step(model, modules, adapted=adapted, amp=amp, length=length) for length in lengths]
        plain = [_trained(step, masked) for step in steps]
        # torch switches function modes off while it runs backward: the second forward pass gets its own
        base.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": lambda: (nullcontext(), AutocastOfCuda())})
        again = [_trained(step, masked) for step in steps]
        for step, seen in zip(steps, plain, strict=True):
            with mask_of(masked, step.length):
                seen.evaluation = step.evaluate()
    return list(zip(plain, again, strict=True))


def _trained(step: Step, masked: bool) -> Seen:
    with mask_of(masked, step.length):
        seen = step.train()
    step.model.zero_grad(set_to_none=True)
    return seen
