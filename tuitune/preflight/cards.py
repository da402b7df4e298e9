"""The GPU a run is meant for: this box's, or one that `--gpu` names."""

import re
from dataclasses import dataclass
from typing import Any

from tuitune.errors import UserError

GIB = 1 << 30

# name → (memory in GiB, compute capability). Memory: what programs get, which is less than the name says: what torch gives as "total
# capacity" when memory runs out, as read in public issue reports (github.com, 2023 to 2026: for the L4 22.03, the T4 14.56, the A30 23.53
# GiB …; with current drivers, and ECC on where a card has it). NVML's total has up to 0.8 GiB more, which the driver keeps.
# Not found there, and taken from a card with the same memory and driver's share: RTX 4070 (as the 3060), A5000 (as the 3090),
# RTX 6000 Ada (as the A6000). Capability: https://developer.nvidia.com/cuda-gpus
KNOWN: dict[str, tuple[float, tuple[int, int]]] = {
    "T4": (14.56, (7, 5)),
    "V100": (15.77, (7, 0)),
    "P100": (15.9, (6, 0)),
    "RTX 2080 Ti": (10.75, (7, 5)),
    "RTX 3060": (11.63, (8, 6)),
    "RTX 3080": (9.77, (8, 6)),
    "RTX 3090": (23.68, (8, 6)),
    "RTX 4070": (11.63, (8, 9)),
    "RTX 4080": (15.57, (8, 9)),
    "RTX 4090": (23.64, (8, 9)),
    "RTX 5090": (31.36, (12, 0)),
    "A10": (22.06, (8, 6)),
    "A10G": (22.04, (8, 6)),
    "A30": (23.53, (8, 0)),
    "A40": (44.34, (8, 6)),
    "A5000": (23.68, (8, 6)),
    "A6000": (47.4, (8, 6)),
    "RTX 6000 Ada": (47.4, (8, 9)),
    "A100": (79.15, (8, 0)),
    "L4": (22.03, (8, 9)),
    "L40S": (44.39, (8, 9)),
    "H100": (79.14, (9, 0)),
    "H200": (139.8, (9, 0)),
    "B200": (178.35, (10, 0)),
}


@dataclass(frozen=True)
class Card:
    """`memory` in bytes, None when unknown; `capability` is CUDA's compute capability, None when unknown or without a GPU.

    `named`: by the user, so that what this box has says nothing about it. `gpu`: False for the CPU. `driver`: its version, of a card of
    this box.
    """

    name: str
    memory: int | None = None
    capability: tuple[int, int] | None = None
    named: bool = False
    gpu: bool = True
    driver: str | None = None

    @property
    def bfloat16(self) -> bool | None:
        """Whether it multiplies bfloat16 in hardware (compute capability 8.0 and newer); None when nobody knows."""
        if not self.gpu:
            return False
        return None if self.capability is None else self.capability >= (8, 0)


CPU = Card("CPU", gpu=False)


def parse_card(text: str) -> Card:
    """`--gpu NAME,24GiB,cc8.9`: parts in any order, all optional; a known name brings memory and capability with it.

    UserError (exit code 2) for a part that says nothing.
    """
    name, memory, capability = "", None, None
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        if found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:GiB|GB|G)", part, re.IGNORECASE):
            memory = int(float(found[1]) * GIB)
        elif found := re.fullmatch(r"(?:cc|sm_?)\s*(\d+)[.]?(\d)", part, re.IGNORECASE):
            capability = (int(found[1]), int(found[2]))
        elif not name and (re.search("[A-Za-z]", part) or _known(part)):
            name = part
        else:
            raise UserError(f"--gpu: {part!r} is no name, memory (24GiB) or compute capability (cc8.9)", exit_code=2)
    if name.lower() == "cpu":
        return Card("CPU", named=True, gpu=False)
    known = _known(name)
    if known is None and memory is None and capability is None:
        raise UserError(
            f"--gpu: {name!r} is no card tuitune knows; add its memory and capability (24GiB,cc8.9), or name one of {', '.join(KNOWN)}",
            exit_code=2,
        )
    known_memory, known_capability = (int(known[0] * GIB), known[1]) if known else (None, None)
    return Card(name or "GPU", memory or known_memory, capability or known_capability, named=True)


def this_box(uuid: str | None = None) -> Card:
    """The card of this box that a run would take first, or the one with this UUID; the CPU when there is none that NVML knows. Some
    milliseconds."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return CPU
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid) if uuid else pynvml.nvmlDeviceGetHandleByIndex(0)
        capability = tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle))
        name = str(pynvml.nvmlDeviceGetName(handle))
        return Card(name, _usable(pynvml, handle), capability, driver=str(pynvml.nvmlSystemGetDriverVersion()))
    except pynvml.NVMLError:
        return CPU
    finally:
        pynvml.nvmlShutdown()


def _usable(pynvml: Any, handle: Any) -> int:
    """Bytes of the card that programs get: all but what the driver keeps, where NVML tells that."""
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2)
        return int(memory.total) - int(memory.reserved)
    except (pynvml.NVMLError, AttributeError):  # a driver, or a pynvml, from before that
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)


def _known(name: str) -> tuple[float, tuple[int, int]] | None:
    found = known_name(name)
    return None if found is None else KNOWN[found]


def known_name(name: str) -> str | None:
    """The name in KNOWN that it is, as people write it (4090) or the driver does (NVIDIA GeForce RTX 4090, NVIDIA A100-SXM4-80GB, Tesla
    V100-SXM2-16GB); the longest wins. A GeForce card's name must be all of it: a 4080 Laptop or 3090 Ti is another card."""
    words = " ".join(name.lower().split())
    bare = words.removeprefix("nvidia ").removeprefix("geforce ")
    fits = [known for known in KNOWN if known.lower().removeprefix("rtx ") == bare.removeprefix("rtx ")]
    if "geforce" not in words:
        fits += [known for known in KNOWN if re.search(rf"\b{re.escape(known.lower())}\b", words)]
    return max(fits, key=len) if fits else None
