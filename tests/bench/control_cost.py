"""What journal and control cost a training step (DESIGN.md, section 8: at most 1 %).

A real run of the demo model (or `--model`) in this process with heartbeat and a hub's link beside it; every call of ours on the training
thread is timed by itself, so that the share does not drown in the steps' own spread. Each step is logged, which is the dearest case.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tuitune.bus.journal import Journal
from tuitune.bus.server import CommandServer
from tuitune.bus.sockets import new_connection, remove_sockets, write_connection
from tuitune.bus.trainer_link import TrainerLink
from tuitune.demo.model import NAME
from tuitune.files import cache_dir

STEPS = 12
RECIPE = """task: sft
model: {{name_or_path: {model}}}
peft: {{r: 16, lora_alpha: 32, target_modules: all-linear}}
{quantization}launch: {{gpus: {gpus}, proof: false}}
dataset:
  train: [{{path: {data}/train.jsonl, columns: {{user: question, assistant: answer}}, max_rows: 500}}]
training: {{max_length: 256, max_steps: {steps}, logging_steps: 1, per_device_train_batch_size: 2, save_strategy: 'no', report_to: none}}
"""
FOUR_BITS = "quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_compute_dtype: bfloat16}\n"


class Stopwatch:
    """Seconds spent in the calls that were wrapped."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, owner: Any, name: str) -> None:
        """Time a method from now on."""
        call = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started

        setattr(owner, name, timed)


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """`share` of a step that is ours; see the module."""
    cuda = torch.cuda.is_available()
    model = Path(arguments.model or cache_dir() / "models" / NAME).resolve()
    quantization = FOUR_BITS if cuda else ""
    text = RECIPE.format(
        model=model,
        quantization=quantization,
        gpus=1 if cuda else "cpu",
        data=Path(arguments.gsm8k).resolve(),
        steps=STEPS,
    )
    return measure(text)


def measure(text: str) -> dict[str, Any]:
    """Train the recipe once."""
    from tests.support.runs import new_run
    from tuitune.recipe.recipe import load_recipe
    from tuitune.trainer.build import build
    from tuitune.trainer.orders import Orders
    from tuitune.trainer.stop import StopRequest
    from tuitune.trainer.telemetry import Telemetry, TelemetryCallback

    with tempfile.TemporaryDirectory() as folder:
        run = new_run(Path(folder), text)
        connection = new_connection(run.path)
        server = CommandServer(connection, lambda event, **fields: None, lambda by: None)
        write_connection(run.connection, connection)
        trainer = build(load_recipe(run.recipe, base=Path(folder)), run).trainer
        link = TrainerLink(run.path)
        link.start()
        telemetry = Telemetry(Journal(run.journal / "trainer-1.jsonl"), link)  # type: ignore[arg-type]
        trainer.steer(telemetry, StopRequest(), Orders(link))  # type: ignore[arg-type]
        callback = TelemetryCallback(telemetry)
        trainer.add_callback(callback)
        telemetry.start_heartbeat()
        ours, steps = Stopwatch(), list[float]()
        for owner, name in (
            (telemetry, "count"),
            (telemetry, "boundary"),
            (telemetry, "metrics"),
            *((telemetry.parts, name) for name in ("fetch", "fetched", "launched", "step_ended")),
            (trainer.orders, "take"),
            (trainer.orders, "announce"),
            (trainer, "_hear_signal"),
        ):
            ours.wrap(owner, name)
        _note_steps(trainer, steps)
        with contextlib.redirect_stdout(sys.stderr):  # some transformers print each log; stdout is for the document
            trainer.train()
        server.close()
        telemetry.close()
        remove_sockets(run.path)
    step = median(steps[2:])
    return {
        "step_ms": round(1000 * step, 3),
        "ours_us": round(1e6 * ours.seconds / len(steps), 1),
        "share": round(ours.seconds / len(steps) / step, 5),
        "steps": len(steps),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
    }


def _note_steps(trainer: Any, steps: list[float]) -> None:
    boundary: Callable[..., None] = trainer._maybe_log_save_evaluate
    last = [time.perf_counter()]

    def noted(*args: Any, **kwargs: Any) -> None:
        boundary(*args, **kwargs)
        now = time.perf_counter()
        steps.append(now - last[0])
        last[0] = now

    trainer._maybe_log_save_evaluate = noted
