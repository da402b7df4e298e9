"""A card that is too small, played on the CPU: torch's OutOfMemoryError once more tokens than it has room for pass a layer."""

from typing import Any

import torch


def refuse() -> None:
    """Raise what CUDA's allocator raises."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class SmallCard:
    """No more than `room` tokens at once go through the model, forward or backward. `refused`: the sizes that did not fit."""

    def __init__(self, model: Any, room: int, where: str) -> None:
        self.room = room
        self.refused: list[int] = []
        layers = (model.get_base_model() if hasattr(model, "get_base_model") else model).model.layers
        if where == "forward":
            layers[-1].register_forward_pre_hook(self._forward, with_kwargs=True)
        if where == "backward":  # the last of the backward pass: other layers have left their gradients
            layers[0].register_full_backward_hook(self._backward)

    def _forward(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._look(args[0] if args else kwargs["hidden_states"])

    def _backward(self, _: Any, __: Any, gradients: tuple[Any, ...]) -> None:
        self._look(gradients[0])

    def _look(self, states: torch.Tensor) -> None:
        tokens = states.shape[0] * states.shape[1]
        if tokens > self.room:
            self.refused.append(tokens)
            refuse()
