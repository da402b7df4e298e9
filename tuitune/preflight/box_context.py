"""What checks of this computer look at: GPU, driver, libraries, disk."""

from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any

from tuitune.preflight.context import Context


@dataclass
class BoxContext(Context):
    """For checks of Stage.BOX. With a card that the user named, what this box's own GPU is like is no question (`card.named`)."""

    def __enter__(self) -> "BoxContext":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if "gpu" in self.__dict__:
            self._sampler.close()

    @cached_property
    def gpu(self) -> dict[str, Any]:
        """What NVML says now: of tuitune.hub.gpu.GpuSampler.sample()."""
        from tuitune.hub.gpu import GpuSampler

        self._sampler = GpuSampler()
        return self._sampler.sample()
