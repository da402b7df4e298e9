"""Readings of GPU memory between two moments: torch's peaks, and what NVML says of this process and of everybody else on the card."""

import os

import torch

from tuitune.hub.gpu import GpuSampler
from tuitune.trainer.readings import OnCard, Reading, of_card


class Gauge:
    """On the CPU every reading is None: torch counts no memory there, and a guess would be no measurement."""

    def __init__(self, cuda: bool) -> None:
        self.cuda = cuda
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def read(self) -> Reading | None:
        """The peaks since the last reading (or since the gauge was made); they begin anew."""
        if not self.cuda:
            return None
        torch.cuda.synchronize()
        found = Reading(torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), torch.cuda.memory_allocated())
        torch.cuda.reset_peak_memory_stats()
        return found

    def card(self) -> OnCard:
        """Who holds the card's memory at this moment."""
        return on_card() if self.cuda else OnCard()

    def close(self) -> None:
        """Give what is cached back and forget the peaks: what follows is measured as if nothing had been."""
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def on_card() -> OnCard:
    """What NVML says of the card that torch computes on. Some milliseconds."""
    sampler = GpuSampler(tree_of=os.getpid())
    try:
        sample = sampler.sample()
    finally:
        sampler.close()
    uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid).lower().removeprefix("gpu-")
    return of_card(sample, uuid)
