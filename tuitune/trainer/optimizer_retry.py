"""An optimizer step that runs out of memory is tried once more with the allocator's cache given back, where it had not begun.

torch's Adam makes its states parameter by parameter in the first step, which is where memory runs out, and counts `step` before anything
else changes: untouched counters prove that no weight has moved. Other optimizers leave no such proof (bitsandbytes updates each weight
right after it has made its state), so there the error goes on, and the run starts again from its last checkpoint.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

from tuitune.trainer.split_batch import Tell, free, is_out_of_memory, peak

NOTE = "The optimizer step cannot be tried again: "


def guard_optimizer(trainer: Any, tell: Tell) -> None:
    """Wrap the step of the trainer's prepared optimizer (as it is in on_train_begin); once, however often it is called."""
    optimizer = trainer.optimizer
    plain = optimizer.step
    if getattr(plain, "guarded", False):
        return

    @wraps(plain)  # with the mark of torch's schedulers, which warn when it is gone
    def step(*args: Any, **kwargs: Any) -> Any:
        return step_or_retry(plain, getattr(optimizer, "optimizer", optimizer), trainer, tell, *args, **kwargs)

    step.guarded = True  # type: ignore[attr-defined]
    optimizer.step = step


def step_or_retry(step: Callable[..., Any], inner: Any, trainer: Any, tell: Tell, *args: Any, **kwargs: Any) -> Any:
    """`step(…)`, a second time when memory ran out before it had changed anything. `inner`: torch's optimizer behind it."""
    before = _Untouched(inner)
    try:
        return step(*args, **kwargs)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        why = before.why_not_again()
        tell(
            step=trainer.state.global_step + 1, micro=None, phase="optimizer step", peak=peak(), retry=None if why else "the step", why=why
        )
        if why:
            error.add_note(f"{NOTE}{why}.")
            raise
    before.drop_new_states()
    free()
    return step(*args, **kwargs)


class _Untouched:
    """Knows whether an optimizer has changed anything since."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.known = type(inner) in (torch.optim.Adam, torch.optim.AdamW)
        self.versions = {weight: _version(state) for weight, state in inner.state.items()} if self.known else {}

    def why_not_again(self) -> str | None:
        """A reason, or None when it may step again."""
        if not self.known:
            return f"how far {type(self.inner).__name__} came is not known"
        if any(_version(state) != self.versions.get(weight, 0) for weight, state in self.inner.state.items()):
            return "it had already changed weights"
        return None

    def drop_new_states(self) -> None:
        """A state that was being made may be half there."""
        for weight in [weight for weight in self.inner.state if weight not in self.versions]:
            del self.inner.state[weight]


def _version(state: dict[str, Any]) -> int:
    """How often the counter of one weight's steps was changed in place; 0 for a new one."""
    step = state.get("step")
    return int(step._version) if isinstance(step, torch.Tensor) else 0
