"""The random numbers that a training step draws from: Python's, NumPy's, torch's and the GPUs'."""

import random
from dataclasses import dataclass
from typing import Any

import numpy
import torch


@dataclass(frozen=True)
class RandomState:
    """All generators at one moment; some ten microseconds and kilobytes."""

    python: Any
    numpy: Any
    torch: "torch.Tensor"
    devices: "list[torch.Tensor]"

    @classmethod
    def take(cls) -> "RandomState":
        """As they are now."""
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return cls(random.getstate(), numpy.random.get_state(), torch.get_rng_state(), devices)

    def put_back(self) -> None:
        """From here on the same numbers are drawn as from the moment of `take`."""
        random.setstate(self.python)
        numpy.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.devices:
            torch.cuda.set_rng_state_all(self.devices)
