"""The random numbers that a forward pass draws from: torch's on the CPU and on the GPUs.

(Python's and NumPy's, which no layer asks, would take 0.1 ms at every micro-batch; `control.random_state_kept` keeps all of them.)
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class RandomState:
    """torch's generators at one moment; some microseconds and kilobytes."""

    cpu: "torch.Tensor"
    gpus: "list[torch.Tensor]"

    @classmethod
    def take(cls) -> "RandomState":
        """As they are now."""
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])

    def put_back(self) -> None:
        """From here on the same numbers are drawn as from the moment of `take`."""
        torch.set_rng_state(self.cpu)
        if self.gpus:
            torch.cuda.set_rng_state_all(self.gpus)
