"""The main job against plain TRL, on the CPU: same losses, and an adapter that is better on rows it has not seen.

    python -m tests.bench.parity --model DIR --gsm8k DIR --work DIR [--steps 30] [--batch 4] [--rows 200]

Trains the shipped GSM8K recipe with LoRA through `tuitune train`, then the same arguments (from the run's ledger) through the 50 lines of
plain_trl.py, then scores unseen rows with and without the adapter through peft alone. JSON on stdout.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), "HF_HUB_OFFLINE": "1"}
CPU = {**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""}


def run(*words: str, cwd: Path, environment: dict[str, str] = CPU) -> str:
    done = subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stderr[-2000:]}")
    return done.stdout


def recipe(model: Path, gsm8k: Path, steps: int, batch: int) -> str:
    text = (ROOT / "recipes" / "gsm8k-smollm2-lora.yaml").read_text()
    for old, new in (
        ("HuggingFaceTB/SmolLM2-135M-Instruct", str(model)),
        ("../data/gsm8k", str(gsm8k)),
        ("num_train_epochs: 1", f"max_steps: {steps}"),
        ("per_device_train_batch_size: 4", f"per_device_train_batch_size: {batch}"),
        ("eval_strategy: steps", "eval_strategy: 'no'"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    return text + "\nlaunch: {gpus: cpu}\n"


def measure(model: Path, gsm8k: Path, work: Path, steps: int, batch: int, rows: int) -> dict[str, Any]:
    """Losses of both, their largest difference, and the NLL of unseen rows without and with the adapter."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "parity.yaml").write_text(recipe(model, gsm8k, steps, batch))
    started = time.monotonic()
    events = [json.loads(line) for line in run("-m", "tuitune", "train", "parity.yaml", "--json", cwd=work).splitlines()]
    trained = time.monotonic()
    (folder,) = (work / "runs").iterdir()
    plain = json.loads(run(str(ROOT / "tests" / "bench" / "plain_trl.py"), str(folder), cwd=work).splitlines()[-1])
    compared = time.monotonic()
    losses = [event["loss"] for event in events if event["ev"] == "metrics"]
    scored = run("-m", "tests.support.nll", str(model), str(folder / "adapter"), str(gsm8k / "test.jsonl"), str(rows), cwd=ROOT)
    return {
        "losses": losses,
        "plain_trl": plain,
        "largest_difference": max(abs(ours - theirs) for ours, theirs in zip(losses, plain, strict=True)),
        "nll": json.loads(scored.splitlines()[-1]),
        "seconds": {"tuitune": trained - started, "plain_trl": compared - trained, "nll": time.monotonic() - compared},
        "events": sorted({event["ev"] for event in events}),
        "ledger": (folder / "effective.json").is_file(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "gsm8k", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rows", type=int, default=200)
    args = parser.parse_args()
    print(json.dumps(measure(args.model.resolve(), args.gsm8k.resolve(), args.work.resolve(), args.steps, args.batch, args.rows)))


if __name__ == "__main__":
    main()
