"""The trainer as torchrun starts it, which leaves in the run directory what each rank has come to: rank-<k>.json.

With TUITUNE_FSDP_ON_CPU FSDP is let through on the CPU (tests/support/fsdp_on_cpu.py).
"""

import json
import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from tuitune.trainer import __main__ as trainer_main

_train = trainer_main._train
taken: list[tuple[int, str]] = []  # (step, order), as this rank has carried them out


def train_and_tell(built: Any, run: Any, telemetry: Any, stop: Any, manifest: Any, rank: Any) -> None:
    """Train, then write step, rate, batch, losses and a hash of the trained weights, whole also where they are spread."""
    _note_orders()
    _train(built, run, telemetry, stop, manifest, rank)
    trainer = built.trainer
    from tuitune.trainer.telemetry import memory

    logs = [log for log in trainer.state.log_history if "loss" in log]
    told = {
        "world": trainer.args.world_size,
        "fsdp": trainer.is_fsdp_enabled,
        "step": trainer.state.global_step,
        "max_steps": trainer.state.max_steps,
        "rate": trainer.lr_scheduler.get_last_lr(),
        "batch": [trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps],
        "losses": {log["step"]: log["loss"] for log in logs},
        "norms": {log["step"]: float(log["grad_norm"]) for log in logs},
        "weights": _hash(trainer.model),
        "stopped": stop.why,
        "orders": taken,
        "memory": memory(),
    }
    (run.path / f"rank-{rank.number}.json").write_text(json.dumps(told))


def _note_orders() -> None:
    """Have every rank remember which order it carried out after which step."""
    from tuitune.trainer.control import ControlMixin

    carry_out = ControlMixin._carry_out

    def noted(self: Any, orders: Any) -> None:
        taken.extend((self.state.global_step, str(order.get("op"))) for order in orders)
        carry_out(self, orders)

    ControlMixin._carry_out = noted  # type: ignore[method-assign]


def _hash(model: Any) -> str:
    """Of the trained weights' bytes; all ranks ask."""
    import torch

    found = sha256()
    for weight in model.parameters():
        if weight.requires_grad:
            whole = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
            found.update(whole.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    if os.environ.get("TUITUNE_FSDP_ON_CPU"):  # on a GPU nothing may import torch before the allocator is chosen
        from tests.support import fsdp_on_cpu

        fsdp_on_cpu.allow()
    trainer_main._train = train_and_tell
    code = trainer_main.main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
