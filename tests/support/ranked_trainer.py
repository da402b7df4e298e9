"""The trainer as torchrun starts it, which leaves in the run directory what each rank has come to: rank-<k>.json."""

import json
import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from tuitune.trainer import __main__ as trainer_main

_train = trainer_main._train


def train_and_tell(built: Any, run: Any, telemetry: Any, stop: Any, manifest: Any, rank: Any) -> None:
    """Train, then write step, rate, batch and a hash of the trained weights."""
    _train(built, run, telemetry, stop, manifest, rank)
    trainer = built.trainer
    weights = [value.detach().numpy().tobytes() for value in trainer.model.parameters() if value.requires_grad]
    told = {
        "world": trainer.args.world_size,
        "step": trainer.state.global_step,
        "max_steps": trainer.state.max_steps,
        "rate": trainer.lr_scheduler.get_last_lr(),
        "batch": [trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps],
        "weights": sha256(b"".join(weights)).hexdigest(),
        "stopped": stop.why,
    }
    (run.path / f"rank-{rank.number}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    trainer_main._train = train_and_tell
    code = trainer_main.main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
