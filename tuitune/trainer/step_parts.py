"""Where the time of a step goes: waiting for data, and how far the GPU is behind the processor that launches its kernels.

    fetch the update's batches ── micro-batch ── micro-batch ── … ── optimizer ── the loss is read
    └ data ┘                                  ▲ launched: is the GPU still at work?   └ its queue is empty

CUDA events give the time between two points of the GPU's queue, gaps included, so a step's length on the GPU says nothing of how busy it
was. What does is its lag: at the moment when a micro-batch's last kernel has been launched, a GPU that is the bottleneck still has most
of the backward pass before it, and one that waits for launches has nothing. So an event is recorded there, and is read when the loss has
been read anyway (tuitune.trainer.watch does, at every boundary): no synchronisation is added; one that has not come by then is left out.
"""

from time import perf_counter
from typing import Any

import torch


class StepParts:
    """Sums over the steps since the last log, of this process. `places`: tokens of the micro-batches with their padding, since `begin`."""

    def __init__(self) -> None:
        self._events: list[Any] = []  # made once, used by every step: the first is the step's origin
        self.begin()

    def begin(self) -> None:
        """The training begins, or begins again with another batch."""
        self.places = 0
        self._begin_window()
        self._begin_step(None)

    def _begin_window(self) -> None:
        self._steps, self._data, self._wall = 0, 0.0, 0.0
        self._behind: list[float] = []

    def _begin_step(self, began: float | None) -> None:
        self._began, self._origin = began, 0.0
        self._launched: list[float] = []

    def fetch(self) -> None:
        """A step begins: the batches of an update are about to be fetched."""
        self._begin_step(perf_counter())

    def fetched(self) -> None:
        """They are here."""
        now = perf_counter()
        self._data += now - (self._began or now)
        if torch.cuda.is_initialized():
            self._record(0)
            self._origin = now

    def launched(self) -> None:
        """A micro-batch's forward and backward pass are launched."""
        if self._origin:
            self._launched.append(perf_counter())
            self._record(len(self._launched))

    def step_ended(self) -> None:
        """The optimizer has stepped and the loss was read; called again before the next step it does nothing."""
        if self._began is None:
            return
        self._steps += 1
        self._wall += perf_counter() - self._began
        if self._launched and self._events[len(self._launched)].query():
            ends = [self._events[0].elapsed_time(event) / 1000 for event in self._events[1 : len(self._launched) + 1]]
            self._behind.append(sum(max(0.0, self._origin + end - at) for end, at in zip(ends, self._launched)))
        self._begin_step(None)

    def take(self, tokens: int, places: int) -> dict[str, Any] | None:
        """`parts` of a `metrics` event: means over the steps since the last one, in milliseconds a step; None when there was none.

        `tokens` and `places`: of all processes in these steps, without and with padding. `gpu_behind_ms`: summed over
        the micro-batches of a step; None on the CPU.
        """
        if not self._steps:
            return None
        steps, behind = self._steps, self._behind
        found = {
            "steps": steps,
            "wall_ms": round(1000 * self._wall / steps, 3),
            "data_ms": round(1000 * self._data / steps, 3),
            "gpu_behind_ms": round(1000 * sum(behind) / len(behind), 3) if behind else None,
            "tokens_computed": places / steps if places else None,
            "padding_share": round(1 - tokens / places, 5) if places else None,
        }
        self._begin_window()
        return found

    def _record(self, index: int) -> None:
        while len(self._events) <= index:
            self._events.append(torch.cuda.Event(enable_timing=True))
        self._events[index].record()
