"""The proof before step 1 on a CUDA box: planned and measured bytes of one run, JSON out. Under two minutes.

    python -m tests.bench.proof [--shape qwen2.5-0.5b] [--method lora|qlora|full] [--optim adamw_torch_fused] [--work DIR]

Trains four steps of a model of a real shape with random weights twice, without and with the proof, each in a trainer process of its own as
`tuitune train` starts it, and compares losses; then once more with memory for half of what the step takes beside the weights, where it must
refuse. The tokenizer is made here; no download. On a box without a GPU it says so.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.model_shapes import CONFIGS
from tests.support.random_weights import save_random_weights
from tests.support.runs import ROOT, new_run
from tuitune.bus.journal import JournalTail
from tuitune.memory.allocator import choose
from tuitune.preflight.cards import this_box

GIB = 1 << 30
LORA = "peft: {r: 16, lora_alpha: 32, lora_dropout: 0.05, target_modules: all-linear}\n"
NF4 = "quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: true, bnb_4bit_compute_dtype: bfloat16}\n"
RECIPE = """\
name: proof
task: sft
model: {{name_or_path: {model}}}
{method}dataset:
  train: [{{path: rows.jsonl}}]
  eval: [{{path: rows.jsonl, max_rows: 32}}]
training: {{max_steps: 4, learning_rate: 1.0e-4, per_device_train_batch_size: {batch}, per_device_eval_batch_size: {batch},
  gradient_accumulation_steps: 2, max_length: {length}, optim: {optim}, logging_steps: 1, save_strategy: 'no', eval_strategy: steps,
  eval_steps: 4}}
launch: {{gpus: 1, proof: {proof}}}
"""
# A trainer process with a part of the card, as torch limits it; "1" is all of it
TRAINER = (
    "import runpy, sys, torch; torch.cuda.set_per_process_memory_fraction(float(sys.argv[1]));"
    "sys.argv = ['trainer', sys.argv[2]]; runpy.run_module('tuitune.trainer', run_name='__main__')"
)


def make_model(shape: str, folder: Path) -> Path:
    """Random weights of CONFIGS[shape], made on the GPU, beside the tokenizer of the tests' tiny model."""
    from tests.support.tiny_model import make_tiny_model

    target = make_tiny_model(folder / shape)
    (target / "model.safetensors").unlink()
    save_random_weights(CONFIGS[shape], target)
    return target


def train(folder: Path, recipe: str, share: float = 1.0) -> dict[str, Any]:
    """Train with `share` of the card; losses, the journal's proof, and how it ended."""
    run = new_run(folder, recipe)
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "0"}
    choose(environment)  # here, because this command imports torch before the trainer can
    done = subprocess.run(
        [sys.executable, "-c", TRAINER, str(share), str(run.path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    records = JournalTail(run.journal).poll()
    metrics = [record for record in records if record["ev"] == "metrics"]
    return {
        "returncode": done.returncode,
        "seconds": round(time.monotonic() - began, 1),
        "losses": [record["loss"] for record in metrics],
        "live": metrics[-1]["mem"] if metrics else None,
        "proof": next((record for record in records if record["ev"] == "proof"), None),
        "oom": next((record for record in records if record["ev"] == "oom"), None),
        "warnings": [record["text"] for record in records if record["ev"] == "warning"],
        "error": next((record.get("error") for record in records if record["ev"] == "end"), done.stderr[-1500:]),
    }


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Without the proof, with it, and with too little memory."""
    from tuitune.memory.calibration import calibration_file

    card = this_box()  # by NVML: a CUDA context of this process would stand on the card beside the trainer's
    if not card.gpu or card.memory is None:
        raise SystemExit("there is no GPU here: what the proof measures can only be shown on one")
    arguments.work.mkdir(parents=True, exist_ok=True)
    model = make_model(arguments.shape, arguments.work)
    words = "the cat sat on a mat and the dog ran to the red house".split()
    rows = [{"text": " ".join(words[number % 7 :] * (4 + 11 * (number % 17)))} for number in range(200)]
    (arguments.work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    method = {"lora": LORA, "qlora": NF4 + LORA, "full": ""}[arguments.method]
    values = {"model": model, "method": method, "batch": arguments.batch, "length": arguments.length, "optim": arguments.optim}
    plain = train(arguments.work, RECIPE.format(**values, proof="false"))
    proven = train(arguments.work, RECIPE.format(**values, proof="true"))
    found = {"shape": arguments.shape, "method": arguments.method, "optim": arguments.optim, "card": card.name}
    found |= {"plain": plain, "proven": proven, "same_losses": plain["losses"] == proven["losses"]}
    if proven["proof"]:
        peak = proven["proof"]["allocated"]["measured"]
        share = (proven["proof"]["phases"][0]["measured"] + peak) / 2 / card.memory
        found["too_little"] = train(arguments.work, RECIPE.format(**values, proof="true"), share)
    file = calibration_file()
    found["calibration"] = json.loads(file.read_text()) if file.exists() else None
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=CONFIGS, default="qwen2.5-0.5b")
    parser.add_argument("--method", choices=("lora", "qlora", "full"), default="lora")
    parser.add_argument("--optim", default="adamw_torch_fused")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tuitune-proof")
    print(json.dumps(bench(parser.parse_args()), indent=1))
