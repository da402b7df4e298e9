"""Issue F, merging: a QLoRA run, merged and exported, with every figure of the checks; JSON out.

    python -m tests.bench.merge --work DIR [--model DIR | --gguf FILE] [--steps N] [--llama-cpp DIR] [--cpu]

The model is SmolLM2-135M-Instruct (the demo's, from the cache, or out of a GGUF file), the data the demo's. Everything goes through the
command line; the merged folder is loaded with plain transformers in a process of its own and asked a question.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tuitune.demo.model import convert, demo_model

ROOT = Path(__file__).parents[2]
RECIPE = """\
name: log
task: sft
model: {{name_or_path: {model}}}
quantization: {{load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: true, bnb_4bit_compute_dtype: bfloat16}}
peft: {{r: 8, lora_alpha: 16, target_modules: all-linear}}
dataset:
  train: [{{path: train.jsonl, columns: {{user: question, assistant: answer}}}}]
  eval: [{{path: test.jsonl, columns: {{user: question, assistant: answer}}}}]
training:
  max_steps: {steps}
  learning_rate: 1.0e-3
  lr_scheduler_type: cosine
  per_device_train_batch_size: {batch}
  max_length: 128
  logging_steps: 1
  eval_strategy: 'no'
  save_strategy: 'no'
"""
PLAIN = """\
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
turns = [{"role": "user", "content": "How are you?"}]
ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
made = model.generate(**ids, max_new_tokens=40, do_sample=False)
print(json.dumps({"dtype": str(model.dtype), "says": tokenizer.decode(made[0, ids["input_ids"].shape[1]:])}))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--llama-cpp", type=Path)
    parser.add_argument("--cpu", action="store_true")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    model = args.model or _model(args)
    for name in ("train.jsonl", "test.jsonl"):
        shutil.copy(ROOT / "tuitune" / "demo" / "data" / name, args.work)
    recipe = RECIPE.format(model=model.resolve(), steps=args.steps, batch=args.batch) + ("launch: {gpus: cpu}\n" if args.cpu else "")
    (args.work / "log.yaml").write_text(recipe)
    figures: dict[str, Any] = {"model": model.name, "steps": args.steps}
    _timed(figures, "train", lambda: _tuitune(args.work, "train", "log.yaml", "--force", "--plain"))
    run = json.loads(_tuitune(args.work, "runs", "--json"))["runs"][0]["id"]
    device = ["--cpu"] if args.cpu else []
    figures["merge"] = json.loads(_timed(figures, "merge_seconds", lambda: _tuitune(args.work, "merge", run, "--json", *device)))
    done = subprocess.run([sys.executable, "-c", PLAIN, figures["merge"]["path"]], capture_output=True, text=True, check=True)
    figures["plain_transformers"] = json.loads(done.stdout.splitlines()[-1])
    words = ["merge", run, "--dtype", "float16", "--out", str(args.work.resolve() / "merged-float16"), "--json", *device]
    figures["merge_float16"] = json.loads(_tuitune(args.work, *words))
    if args.llama_cpp:
        for quant in ("F16", "Q8_0"):
            words = ["export", run, "--to", "gguf", "--quant", quant, "--snippets", "--json", "--converter", str(args.llama_cpp.resolve())]
            figures[f"gguf_{quant}"] = json.loads(_tuitune(args.work, *words, *device))
    figures["push_dry_run"] = json.loads(_tuitune(args.work, "push", run, "nobody/log", "--dry-run", "--json"))["files"]
    print(json.dumps(figures, indent=1))


def _model(args: argparse.Namespace) -> Path:
    if args.gguf is None:
        return demo_model(lambda text: print(text, file=sys.stderr))
    target = args.work / "SmolLM2-135M-Instruct"
    if not target.exists():
        convert(args.gguf, target)
    return target


def _tuitune(folder: Path, *words: str) -> str:
    """What a command prints; exit code 1 of a check that failed is a figure, anything else an error."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tuitune", *words], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode and not done.stdout.startswith("{"):
        raise SystemExit(f"tuitune {' '.join(words)}: exit code {done.returncode}")
    return done.stdout


def _timed(figures: dict[str, Any], name: str, do: Any) -> Any:
    started = time.monotonic()
    found = do()
    figures[name if name.endswith("seconds") else f"{name}_seconds"] = round(time.monotonic() - started, 1)
    return found


if __name__ == "__main__":
    main()
