"""`python -m tests.bench.profiled_trainer RUN`: tuitune's trainer, watched and pinned as TUITUNE_BENCH says. No code of the product's.

TUITUNE_BENCH is JSON, each value may be null: {"profile": FILE, "compile": a backend of torch.compile, "card_gib": GiB that the card is
said to have, "product": true for tests.bench.lora_addition, "base_first": true for peft's own order of products}. With a backend layers
are compiled however short the run is and on any device. The profile is of the run's last steps: on a GPU of its kernels alone, which costs
the trainer's own thread next to nothing.
"""

import json
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from tests.bench.kernel_times import summed
from tests.bench.lora_addition import add_by_product
from tuitune.files import write_atomically
from tuitune.recipe.strategy import strategy_of
from tuitune.trainer import __main__ as trainer
from tuitune.trainer import adapter_dtype, kernels

PROFILED = 2  # steps


class Profile(TrainerCallback):
    """Profiles the last PROFILED steps and writes what they come to into `file`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.cuda = torch.cuda.is_available()
        activity = torch.profiler.ProfilerActivity.CUDA if self.cuda else torch.profiler.ProfilerActivity.CPU
        self.profiler = torch.profiler.profile(activities=[activity])
        self.begun = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == state.max_steps - PROFILED:
            self._wait()
            self.profiler.start()
            self.begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.begun or state.global_step < state.max_steps:
            return
        self._wait()
        wall = time.perf_counter() - self.begun
        self.profiler.stop()
        events = [event for event in self.profiler.events() if not self.cuda or event.device_type == torch.autograd.DeviceType.CUDA]
        found = summed(map(self._kernel, events), wall * 1000, PROFILED, "GPU" if self.cuda else "CPU")
        write_atomically(self.file, json.dumps(found, indent=1))

    def _kernel(self, event: Any) -> tuple[str, float, float, float]:
        own = event.self_device_time_total if self.cuda else event.self_cpu_time_total
        return event.name, event.time_range.start / 1000, event.time_range.end / 1000, own / 1000

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def main() -> int:
    wanted = json.loads(os.environ["TUITUNE_BENCH"])
    if wanted.get("compile"):
        kernels.why_not_compiled = lambda *about, **more: ""
        kernels.compile_layers = partial(kernels.compile_layers, backend=wanted["compile"])
    if wanted.get("base_first"):
        adapter_dtype.compute_adapter_first = lambda model: 0
    if wanted.get("card_gib"):
        whole = trainer.this_box
        trainer.this_box = lambda uuid=None: replace(whole(uuid), memory=int(wanted["card_gib"] * (1 << 30)))
    train = trainer._train

    def watched(built: Any, *rest: Any) -> None:
        if wanted.get("product"):
            add_by_product(built.trainer.model, built.box, strategy_of(built.recipe.launch))
        if wanted.get("profile"):
            built.trainer.add_callback(Profile(Path(wanted["profile"])))
        train(built, *rest)

    trainer._train = watched
    return trainer.main(Path(sys.argv[1]))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as the trainer itself leaves
