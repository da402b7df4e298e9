"""Issue F, "Done when" 2, in one call: GSM8K before and after SFT, and what the training cost elsewhere. JSON on stdout.

    python -m tests.bench.gsm8k_eval [--model DIR] [--gsm8k DIR] [--work DIR] [--train-rows N] [--rows N] [--epochs 1] [--plain] [--cpu]

Trains the shipped GSM8K recipe (as QLoRA, --plain: LoRA in the model's own type) on the train set through `tuitune train`, then measures
with `tuitune eval`: NLL of the gold answer and exact match of `#### n` on test questions, and the forgetting probe, base against adapter,
each with its paired bootstrap interval. The 731 test questions for which example_model_solutions.jsonl has a right and a wrong solution
stay out: preference training of the same lineage uses them. Without the data it says so. On a CPU give --train-rows and --rows.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.parity import CPU, ENVIRONMENT, ROOT

MODEL = Path.home() / ".cache" / "tuitune" / "models" / "SmolLM2-135M-Instruct"
QLORA = """
quantization:
  load_in_4bit: true
  bnb_4bit_quant_type: nf4
  bnb_4bit_use_double_quant: true
  bnb_4bit_compute_dtype: {dtype}
"""
BATCH = 64  # on a GPU: a step takes nearly as long with 8


def questions_with_both(solutions: Path) -> set[str]:
    """The questions to which one of the models gave a right answer and one a wrong one."""
    found = set()
    for row in read(solutions):
        verdicts = {value["is_correct"] for value in row.values() if isinstance(value, dict) and "is_correct" in value}
        if verdicts == {True, False}:
            found.add(row["question"])
    return found


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def prepare(args: argparse.Namespace) -> dict[str, Any]:
    """The data into the work folder; how many questions there are of each kind."""
    both = questions_with_both(args.gsm8k / "example_model_solutions.jsonl")
    test = read(args.gsm8k / "test.jsonl")
    kept = [row for row in test if row["question"] not in both]
    train = read(args.gsm8k / "train.jsonl")
    write(args.work / "train.jsonl", train[: args.train_rows])
    write(args.work / "held-out.jsonl", kept[: args.rows])
    assert not {row["question"] for row in kept} & {row["question"] for row in train}
    return {"test": len(test), "kept_out": len(both), "evaluated_of": len(kept), "train": len(train[: args.train_rows])}


def recipe(args: argparse.Namespace) -> str:
    """The shipped recipe with these paths, an epoch as it stands there, and 4-bit weights under the adapter."""
    text = (ROOT / "recipes" / "gsm8k-smollm2-lora.yaml").read_text(encoding="utf-8")
    dtype = "float32" if args.cpu else "bfloat16"
    for old, new in (
        ("HuggingFaceTB/SmolLM2-135M-Instruct", str(args.model)),
        ("../data/gsm8k/train.jsonl", "train.jsonl"),
        ("../data/gsm8k/test.jsonl", "held-out.jsonl"),
        ("dtype: float32", f"dtype: {'float32' if args.plain else dtype}"),
        ("num_train_epochs: 1", f"num_train_epochs: {args.epochs}"),
        ("per_device_train_batch_size: 4", f"per_device_train_batch_size: {4 if args.cpu else BATCH}"),
        ("per_device_eval_batch_size: 4", f"per_device_eval_batch_size: {4 if args.cpu else BATCH}"),
        ("eval_strategy: steps", "eval_strategy: 'no'"),
        ("      max_rows: 200\n", ""),  # of the data to evaluate on: all of it, or --rows
    ):
        assert old in text, old
        text = text.replace(old, new)
    return text + ("" if args.plain else QLORA.format(dtype=dtype)) + f"\nlaunch: {{gpus: {'cpu' if args.cpu else 1}}}\n"


def tuitune(*words: str, args: argparse.Namespace) -> str:
    """stdout of a tuitune command in the work folder."""
    done = subprocess.run(
        [sys.executable, "-m", "tuitune", *words],
        cwd=args.work,
        env=CPU if args.cpu else ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"tuitune {' '.join(words)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def bench(args: argparse.Namespace) -> dict[str, Any]:
    """Train, then measure both sides."""
    missing = [name for name in ("train.jsonl", "test.jsonl", "example_model_solutions.jsonl") if not (args.gsm8k / name).is_file()]
    if missing or not (args.model / "config.json").is_file():
        what = f"{', '.join(missing)} in {args.gsm8k}" if missing else f"a model in {args.model}; `tuitune demo` makes one"
        raise SystemExit(f"there is no {what}: nothing was measured")
    args.work.mkdir(parents=True, exist_ok=True)
    questions = prepare(args)
    (args.work / "gsm8k.yaml").write_text(recipe(args), encoding="utf-8")
    started = time.monotonic()
    events = [json.loads(line) for line in tuitune("train", "gsm8k.yaml", "--json", args=args).splitlines()]
    trained = time.monotonic()
    run = Path(next(event for event in reversed(events) if event["ev"] == "end" and event.get("result"))["result"]["path"]).parent
    words = ["eval", str(run), "--metric", "nll", "--answer-regex", "#### (.*)", "--max-new-tokens", str(args.max_new_tokens), "--json"]
    report = json.loads(tuitune(*words, *(["--cpu"] if args.cpu else []), args=args))
    losses = [event["loss"] for event in events if event["ev"] == "metrics"]
    return {
        "questions": questions,
        "training": {"steps": len(losses), "first_loss": losses[0], "last_loss": losses[-1], "seconds": trained - started},
        "evaluation_seconds": time.monotonic() - trained,
        **{
            name: report[name]
            for name in ("device", "source", "data", "generation", "pattern", "figures", "forgetting", "warnings", "report")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--gsm8k", type=Path, default=ROOT.parent / "shared" / "data" / "gsm8k")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tuitune-gsm8k")
    parser.add_argument("--train-rows", type=int, help="of the 7,473 (default: all)")
    parser.add_argument("--rows", type=int, help="of the 588 test questions (default: all)")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--max-new-tokens", type=int, default=320)
    parser.add_argument("--plain", action="store_true", help="LoRA on the model's own weights instead of 4-bit ones")
    parser.add_argument("--cpu", action="store_true")
    args = parser.parse_args()
    args.model, args.gsm8k, args.work = args.model.resolve(), args.gsm8k.resolve(), args.work.resolve()
    print(json.dumps(bench(args), indent=1))


if __name__ == "__main__":
    main()
