"""One run on a CUDA box that confirms what the CPU tests claim; JSON out.

    python -m tests.bench.gpu --gguf SmolLM2-135M-Instruct.Q4_1.gguf --gsm8k DIR --work DIR --out DIR

It trains the GSM8K recipe as QLoRA nf4 (three epochs of the 135M model) with the workbench attached in a real pseudo-terminal,
then 20 steps of a random model of 1.5B (or 7B) shape, and reads every figure from the journals. Beside it the CPU compares losses with
plain TRL (tests.bench.parity). Contract tests are run last.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.random_weights import save_random_weights
from tuitune.bus.envelope import as_number
from tuitune.bus.journal import JournalTail
from tuitune.demo.model import convert

ROOT = Path(__file__).parents[2]
GIB = 1 << 30

GSM8K = """\
name: gsm8k-qlora
task: sft
model: {{name_or_path: {model}}}
quantization: {{load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: true, bnb_4bit_compute_dtype: bfloat16}}
peft: {{r: 16, lora_alpha: 32, lora_dropout: 0.0, target_modules: all-linear}}
dataset:
  train: [{{path: {data}/train.jsonl, columns: {{user: question, assistant: answer}}}}]
  eval: [{{path: {data}/test.jsonl, columns: {{user: question, assistant: answer}}, max_rows: 200}}]
training:
  num_train_epochs: 3
  learning_rate: 2.0e-4
  per_device_train_batch_size: 128
  gradient_accumulation_steps: 1
  max_length: 512
  lr_scheduler_type: cosine
  warmup_steps: 0.03
  logging_steps: 5
  eval_strategy: steps
  eval_steps: 40
  save_strategy: epoch
"""

SHAPE = """\
name: {name}
task: sft
model: {{name_or_path: {model}}}
quantization: {{load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: true, bnb_4bit_compute_dtype: bfloat16}}
peft: {{r: 16, lora_alpha: 32, lora_dropout: 0.0, target_modules: all-linear}}
dataset:
  train: [{{path: {data}/train.jsonl, columns: {{user: question, assistant: answer}}}}]
training: {{max_steps: 20, learning_rate: 2.0e-4, per_device_train_batch_size: 16, max_length: 512, logging_steps: 1, save_strategy: 'no'}}
"""

SHAPES = {
    # Qwen2.5-1.5B and Llama-2-7B, as in their config.json
    "1.5b": {"model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
             "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True, "max_position_embeddings": 32768},
    "7b": {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 32, "vocab_size": 49152, "tie_word_embeddings": False, "max_position_embeddings": 4096},
}  # fmt: skip


def make_shape(name: str, tokenizer: Path, target: Path) -> Path:
    """A model of a real shape with random weights, built on the GPU and saved as bf16 safetensors beside a real tokenizer."""
    shutil.copytree(
        tokenizer, target, ignore=shutil.ignore_patterns("*.safetensors", "config.json", "generation_config.json"), dirs_exist_ok=True
    )
    save_random_weights(SHAPES[name], target)
    return target


def train(recipe: Path, workspace: Path, log: Path) -> tuple[Path, subprocess.Popen[bytes]]:
    """`tuitune train --json` as a user would run it; the run directory and the process that follows it."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tuitune", "train", str(recipe), "--json"],
            cwd=workspace,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = sorted((workspace / "runs").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
        if found and found[-1].parent.name.startswith(recipe.stem):
            return found[-1].parent, process
        time.sleep(0.2)
    raise SystemExit(f"no run directory after 60 s: {log.read_text()[-2000:]}")


def figures(run: Path) -> dict[str, Any]:
    """What the journal says: losses, speed, torch's and NVML's memory."""
    tail = JournalTail(run / "journal")
    records: list[dict[str, Any]] = []
    while batch := tail.poll():
        records += batch
    metrics = [record for record in records if record.get("ev") == "metrics" and as_number(record.get("loss")) is not None]
    gpu = [device for record in records if record.get("ev") == "gpu" for device in record.get("devices", [])]
    memory = [record["mem"] for record in metrics if record.get("mem")]
    speeds = [speed for record in metrics[2:] if (speed := as_number(record.get("tokens_per_second")))]
    states = [record.get("s") for record in records if record.get("ev") == "state"]
    return {
        "run": run.name,
        "state": states[-1] if states else None,
        "steps": metrics[-1].get("step") if metrics else None,
        "loss_first": metrics[0]["loss"] if metrics else None,
        "loss_last": metrics[-1]["loss"] if metrics else None,
        "eval_losses": [record["metrics"].get("eval_loss") for record in records if record.get("ev") == "eval"],
        "tokens_per_second_median": statistics.median(speeds) if speeds else None,
        "torch_peak_allocated_gib": max((m.get("peak_alloc") or 0 for m in memory), default=0) / GIB,
        "torch_peak_reserved_gib": max((m.get("peak_reserved") or 0 for m in memory), default=0) / GIB,
        "nvml_device_used_peak_gib": max((d.get("mem_used") or 0 for d in gpu), default=0) / GIB,
        "nvml_process_peak_gib": max((d.get("proc_mem") or 0 for d in gpu), default=0) / GIB,
        "gpu_samples": len(gpu),
        "gpu_util_median": statistics.median([d.get("util") or 0 for d in gpu]) if gpu else None,
        "power_peak_w": max((d.get("power") or 0 for d in gpu), default=0),
        "crash": next((record for record in records if record.get("ev") == "crash"), None),
    }


def contract_tests(folder: Path) -> dict[str, str]:
    """What each file of tests/contract ended with, run beside each other (the box has the cores for it); of a failure more than a line."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=3"]
    outputs = {file: folder / f"{file.stem}.txt" for file in sorted((ROOT / "tests" / "contract").glob("test_*.py"))}
    running = [subprocess.Popen([*command, str(file)], cwd=ROOT, stdout=output.open("w")) for file, output in outputs.items()]
    codes = [process.wait() for process in running]
    texts = [output.read_text().strip() for output in outputs.values()]
    return {file.stem: text[-2000:] if code else text.splitlines()[-1] for file, code, text in zip(outputs, codes, texts)}


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("gguf", "gsm8k", "work", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--shapes", default="1.5b")
    parser.add_argument("--skip-tests", action="store_true")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"schema": 1, "bench": "gpu"}

    started = time.monotonic()
    model = args.work / "SmolLM2-135M-Instruct"
    convert(args.gguf, model)
    result["convert_seconds"] = time.monotonic() - started

    words = ["--model", str(model), "--gsm8k", str(args.gsm8k), "--work", str(args.work / "parity")]
    parity = subprocess.Popen([sys.executable, "-m", "tests.bench.parity", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)

    recipe = args.work / "gsm8k-qlora.yaml"
    recipe.write_text(GSM8K.format(model=model, data=args.gsm8k))
    run, process = train(recipe, args.work, args.out / "gsm8k.jsonl")
    screens = subprocess.run(
        [sys.executable, "-m", "tests.support.live_screenshot", str(args.work), str(run), str(args.out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    result["live_workbench"] = {"returncode": screens.returncode, "said": (screens.stdout + screens.stderr)[-2000:]}
    process.wait(timeout=500)
    result["gsm8k_qlora"] = figures(run)
    result["gsm8k_seconds"] = time.monotonic() - started

    for name in args.shapes.split(","):
        shape = make_shape(name, model, args.work / f"random-{name}")
        recipe = args.work / f"random-{name}-qlora.yaml"
        recipe.write_text(SHAPE.format(name=recipe.stem, model=shape, data=args.gsm8k))
        run, process = train(recipe, args.work, args.out / f"random-{name}.jsonl")
        process.wait(timeout=300)
        result[f"random_{name}"] = figures(run)

    said = parity.communicate(timeout=300)[0]
    result["parity_on_cpu"] = json.loads(said) if parity.returncode == 0 else f"failed: {said[-500:]}"
    if not args.skip_tests:
        result["contract_tests"] = contract_tests(args.work)
    (args.out / "gpu.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
