"""What a trainer tells the journal while it works: states, metrics, memory, heartbeat. Reads, and changes nothing."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback

from tuitune.bus.journal import Journal
from tuitune.trainer.orders import Link
from tuitune.trainer.ranks import Silent
from tuitune.trainer.step_parts import StepParts

HEARTBEAT_S = 1.0
# What TRL's micro-batches mark their tokens with: one row each; pairs of ORPO and CPO; answers that were written while training.
MASKS = (("attention_mask",), ("chosen_attention_mask", "rejected_attention_mask"), ("prompt_mask", "completion_mask"))


class Telemetry:
    """One per trainer process. Counters are of the training proper: time spent evaluating and saving does not count as training time."""

    def __init__(self, journal: Journal | Silent, link: Link) -> None:
        self.journal = journal
        self.link = link
        self.current = "starting"
        self.step = 0
        self.last_boundary = time.monotonic()
        self._own_tokens: torch.Tensor | int = 0  # of this process since `begin`
        self._tokens_before = 0
        self.parts = StepParts()
        self._window_tokens = 0.0
        self._window_places = 0
        self._window_started: float | None = None
        self._window_steps = 0
        self._apart = 0.0
        self._stopping = threading.Event()

    def state(self, state: str, *, step: int | None = None, why: str | None = None) -> None:
        """Tell a state, once however often it is set."""
        if state != self.current:
            self.current = state
            self.journal.emit("state", s=state, step=self.step if step is None else step, why=why)

    @contextmanager
    def phase(self, name: str, why: str | None = None) -> Iterator[None]:
        """A state that lasts for a block and does not count as training time (evaluating, saving, paused); one may lie in another."""
        before, started, apart = self.current, time.monotonic(), self._apart
        self.state(name, why=why)
        try:
            yield
        finally:
            self._apart = apart + time.monotonic() - started
            self.state(before)

    def count(self, inputs: dict[str, Any]) -> None:
        """Add a micro-batch's tokens, padding left out; stays on the device until a log needs the number."""
        masks = [inputs[name] for names in MASKS if all(name in inputs for name in names) for name in names]
        if not masks and isinstance(inputs.get("input_ids"), torch.Tensor):
            self._own_tokens = self._own_tokens + inputs["input_ids"].numel()
            self.parts.places += inputs["input_ids"].numel()
        for mask in masks:
            self._own_tokens = self._own_tokens + mask.sum()
            self.parts.places += mask.numel()

    def boundary(self, step: int) -> None:
        """A step has ended, its log, evaluation and checkpoint included."""
        self.step = step
        self.last_boundary = time.monotonic()

    @property
    def tokens(self) -> int:
        """Trained on so far, by all ranks; waits for the GPU. All ranks ask at the same place."""
        return self._tokens_before + sum(values[0] for values in of_all_ranks([self._own_tokens]))

    def begin(self, step: int, tokens: int) -> None:
        """The step after `step` is about to run; so many tokens are behind it."""
        self.step, self._window_steps = step, step
        self._own_tokens, self._tokens_before, self._window_tokens = 0, tokens, tokens
        self._window_places = 0
        self.parts.begin()
        self._window_started, self._apart = time.monotonic(), 0.0
        self.state("running")

    def metrics(self, logs: dict[str, Any], step: int, max_steps: int, epoch: float | None) -> None:
        """One log of the trainer as a `metrics` event; tokens per second and step time are of the window since the last one."""
        self.step = step
        now, mine = time.monotonic(), memory()
        ranks = of_all_ranks([self._own_tokens, self.parts.places, *(mine or {}).values()])
        tokens = self._tokens_before + sum(values[0] for values in ranks)
        places = sum(values[1] for values in ranks)
        parts = self.parts.take(tokens - int(self._window_tokens), places - self._window_places)
        speed, step_ms = None, None
        if self._window_started is not None:
            seconds = now - self._window_started - self._apart
            steps = step - self._window_steps
            if seconds > 0 and steps > 0:
                step_ms = 1000 * seconds / steps
                speed = (tokens - self._window_tokens) / seconds if tokens else None  # online DPO does not show its tokens
        self._window_started, self._window_tokens, self._window_steps, self._apart = now, tokens, step, 0.0
        self._window_places = places
        own: dict[str, Any] = {
            "step": step,
            "max_steps": max_steps,
            "epoch": epoch,
            "tokens": tokens,
            "tokens_per_second": speed,
            "step_ms": step_ms,
        }
        own["mem"] = mine
        if mine and len(ranks) > 1:
            own["mem_ranks"] = [dict(zip(mine, values[2:], strict=True)) for values in ranks]
        own["parts"] = parts
        self.journal.emit("metrics", **{**{key: _plain(value) for key, value in logs.items()}, **own})

    def start_heartbeat(self) -> None:
        """A record a second from a thread of its own: fresh while a step is stuck, silent when the process is."""
        threading.Thread(target=self._beat, name="tuitune-heartbeat", daemon=True).start()

    def _beat(self) -> None:
        while not self._stopping.wait(HEARTBEAT_S):
            self.journal.emit("hb", step=self.step, phase=self.current, since_boundary_s=round(time.monotonic() - self.last_boundary, 2))

    def close(self) -> None:
        """End the heartbeat and send the last answers."""
        self._stopping.set()
        self.link.close()
        self.journal.close()


class TelemetryCallback(TrainerCallback):  # type: ignore[misc]
    """The trainer's own events, passed to the journal."""

    def __init__(self, telemetry: Telemetry, tokens_before: Callable[[], int] = lambda: 0) -> None:
        self.telemetry, self.tokens_before = telemetry, tokens_before

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Training time starts here."""
        self.telemetry.begin(state.global_step, self.tokens_before())

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """A training log has a loss; evaluations and the closing summary are told elsewhere."""
        if logs and "loss" in logs:
            self.telemetry.metrics(logs, state.global_step, state.max_steps, state.epoch)


def of_all_ranks(values: Sequence[torch.Tensor | int]) -> list[list[int]]:
    """These whole numbers of each of the run's processes, by rank. All ranks ask at the same place; waits for the GPU."""
    own = [int(value) for value in values]
    if not (torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
        return [own]
    device = "cpu" if torch.distributed.get_backend() == "gloo" else "cuda"
    mine = torch.tensor(own, dtype=torch.int64, device=device)
    found = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(found, mine)
    return [one.tolist() for one in found]


def memory() -> dict[str, int] | None:
    """Bytes of torch's allocator on this process's GPU: live now, reserved now, and the peaks since the start; None on the CPU."""
    if not torch.cuda.is_initialized():
        return None
    return {
        "alloc": torch.cuda.memory_allocated(),
        "reserved": torch.cuda.memory_reserved(),
        "peak_alloc": torch.cuda.max_memory_allocated(),
        "peak_reserved": torch.cuda.max_memory_reserved(),
    }


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
