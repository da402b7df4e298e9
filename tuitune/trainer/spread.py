"""A model that is spread over the ranks (FSDP2, DeepSpeed): what of it transformers, accelerate and TRL together get wrong. A mixin.

With one rank, or a copy on each, it is the plain trainer. tests/contract/test_fsdp.py shows each of the faults.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class SpreadMixin:
    """Over any transformers Trainer."""

    args: Any
    model: Any
    is_fsdp_enabled = False
    is_deepspeed_enabled = False

    @property
    def spread(self) -> bool:
        """Whether weights or states are spread over the ranks."""
        return self.is_fsdp_enabled or self.is_deepspeed_enabled

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own: here FSDP wraps the model."""
        inherited: Any = super()
        if not self.is_fsdp_enabled:
            return inherited._prepare_for_training(*args, **kwargs)
        with _head_within(self.model):
            return inherited._prepare_for_training(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The trainer's own. Under FSDP only what is trained is gathered, and a tied weight is written once: the trainer would gather the
        frozen base with an adapter, and not see that two whole copies were one weight."""
        inherited: Any = super()
        if not self.is_fsdp_enabled:
            inherited.save_model(output_dir, _internal_call)
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        adapter = hasattr(self.model, "peft_config")
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=adapter)
        weights = get_model_state_dict(self.model, options=options)  # empty on the ranks that write nothing
        for name in getattr(self.model, "all_tied_weights_keys", None) or ():
            weights.pop(name, None)
        inherited._save(output_dir or self.args.output_dir, state_dict=weights)

    def no_room(self) -> str | None:
        """Why the next checkpoint will not fit, or None; asked on the rank that writes. It has the trained weights twice, and two states of
        each."""
        if not self.args.should_save:
            return None
        needed = 4 * sum(weight.numel() * weight.element_size() for weight in self.model.parameters() if weight.requires_grad)
        free = shutil.disk_usage(Path(self.args.output_dir).parent).free
        return None if free > needed else f"it needs some {needed >> 20} MiB, and the disk has {free >> 20} left"


@contextmanager
def _head_within(model: Any) -> Iterator[None]:
    """Under an adapter, leave an untied head in the unit of the whole model. accelerate makes it a unit of its own, which is gathered when
    the head is called; TRL's loss reads its weight and never calls it, and the first backward pass ends in an AttributeError."""
    given, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not hasattr(model, "peft_config") or head is None or head.weight is given.weight:
        yield
        return
    model.get_output_embeddings = lambda: None
    try:
        yield
    finally:
        del model.get_output_embeddings
