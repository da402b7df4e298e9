"""The device that torch sees."""

import torch

from tuitune.trainer.box import Box


def look(cpu: bool = False) -> Box:
    """The box as torch sees it: the first visible CUDA device, else the CPU; the CPU as well when the recipe wants it (`cpu`)."""
    if not cpu and torch.cuda.is_available():
        return Box(True, torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0))
    return Box(False, "CPU", (0, 0))
