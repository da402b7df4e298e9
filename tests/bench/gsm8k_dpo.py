"""SFT on GSM8K, then DPO from its adapter on pairs of right and wrong solutions; JSON on stdout.

    python -m tests.bench.gsm8k_dpo --model DIR --gsm8k DIR --work DIR                       # whole: on a GPU
    python -m tests.bench.gsm8k_dpo --model DIR --gsm8k DIR --work DIR --rows 64 --pairs 48  # small: on the CPU

The pairs are of GSM8K's *test* questions: those with a right and a wrong solution in example_model_solutions.jsonl (731). A hash of the
question puts a fifth of them aside; all of them stay out of every GSM8K figure of this lineage. Trained on is every right solution against
every wrong one of a question, and so are the pairs that are counted, by plain transformers and peft: the policy prefers the right solution
when its log-probability rose more over the SFT model's than the wrong one's did (DPO's own measure; chance is one half).
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from tuitune.runs.curves import read_curves
from tuitune.runs.directory import RunDirectory
from tuitune.versions import installed

ROOT = Path(__file__).parents[2]
SOLVERS = ("175b_verification", "6b_verification", "175b_finetuning", "6b_finetuning")
HELD_OUT = 20  # percent of the questions
Pair = dict[str, Any]

COMMON = """\
model: {{name_or_path: {model}, dtype: {dtype}{about}}}
dataset:
  train: [{{path: {train}, columns: {columns}}}]
{evaluation}training:
  learning_rate: {rate}
  per_device_train_batch_size: {batch}
  per_device_eval_batch_size: {batch}
  max_length: 512
  lr_scheduler_type: cosine
  warmup_steps: 0.1
  logging_steps: {logging}
  save_strategy: 'no'
  seed: 42
"""
SFT = "name: gsm8k-sft\ntask: sft\npeft: {{r: 16, lora_alpha: 32, lora_dropout: 0.0, target_modules: all-linear}}\n" + COMMON
DPO = "name: gsm8k-dpo\ntask: dpo\n" + COMMON + "  beta: 0.1\n  eval_strategy: steps\n  eval_steps: {every}\n  eval_on_start: true\n"


def solutions(row: dict[str, Any], right: bool) -> list[str]:
    """The solutions of a question that are right (wrong), each once, with GSM8K's own mark before the result."""
    found = (row[name]["solution"] for name in SOLVERS if bool(row[name]["is_correct"]) is right)
    return list(dict.fromkeys("#### ".join(text.rsplit("A: ", 1)) for text in found if "\nA: " in text))


def is_held_out(question: str) -> bool:
    """Whether a hash of the question puts it aside."""
    return int(sha256(question.encode()).hexdigest()[:8], 16) % 100 < HELD_OUT


def read_pairs(file: Path) -> tuple[list[Pair], list[Pair], list[str]]:
    """Pairs to train on, pairs put aside, and all questions of either."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    train, aside, questions = [], [], []
    for row in rows:
        right, wrong = solutions(row, True), solutions(row, False)
        if not right or not wrong:
            continue
        questions.append(row["question"])
        pairs = aside if is_held_out(row["question"]) else train
        pairs += [_pair(row["question"], good, bad) for good in right for bad in wrong]
    return train, aside, questions


def _pair(question: str, right: str, wrong: str) -> Pair:
    turns = [[{"role": role, "content": text}] for role, text in (("user", question), ("assistant", right), ("assistant", wrong))]
    return dict(zip(("prompt", "chosen", "rejected"), turns))


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def train(work: Path, name: str, text: str, cpu: bool) -> tuple[RunDirectory, float]:
    """`tuitune train` on a recipe to its end; its run and the seconds it took, preflight included."""
    (work / f"{name}.yaml").write_text(text + ("launch: {gpus: cpu}\n" if cpu else ""), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), "HF_HUB_OFFLINE": "1"}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tuitune", "train", f"{name}.yaml", "--json"], cwd=work, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr[-2000:]}")
    run = next(path for path in (work / "runs").iterdir() if path.name.startswith(f"gsm8k-{name}-"))
    return RunDirectory(run), time.monotonic() - started


def margins(model: Path, sft: Path, dpo: Path, pairs: Sequence[Pair], cpu: bool) -> Iterator[float]:
    """Of each pair how much more the right solution's log-probability rose from the SFT model to the DPO model than the wrong one's, in
    nats."""
    import peft
    import torch
    import transformers

    device = "cpu" if cpu or not torch.cuda.is_available() else "cuda"
    tokenizer = transformers.AutoTokenizer.from_pretrained(sft)
    base = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    policy = peft.PeftModel.from_pretrained(base, dpo, adapter_name="dpo").to(device).eval()
    policy.load_adapter(sft, adapter_name="sft")

    @torch.no_grad()
    def logp(adapter: str, prompt: list[int], answer: list[int]) -> float:
        policy.set_adapter(adapter)
        ids = torch.tensor([prompt + answer], device=device)
        logps = policy(ids).logits.float().log_softmax(-1)[0, len(prompt) - 1 : -1]
        return float(logps.gather(1, ids[0, len(prompt) :, None]).sum())

    for pair in pairs:
        prompt = tokenizer.apply_chat_template(pair["prompt"], add_generation_prompt=True, return_dict=False)
        rise = []
        for side in ("chosen", "rejected"):
            whole = tokenizer.apply_chat_template([*pair["prompt"], *pair[side]], return_dict=False)
            assert whole[: len(prompt)] == prompt, "the template renders the prompt alone as it does before an answer"
            rise.append(logp("dpo", prompt, whole[len(prompt) :]) - logp("sft", prompt, whole[len(prompt) :]))
        yield rise[0] - rise[1]


def accuracy(pairs: Sequence[Pair], found: Sequence[float]) -> dict[str, Any]:
    """The share of pairs with a margin above 0 and the mean margin (nats), each with a bootstrap interval (95 %) over the questions: pairs
    of one question are not independent."""
    of: dict[str, list[float]] = {}
    for pair, margin in zip(pairs, found, strict=True):
        of.setdefault(pair["prompt"][0]["content"], []).append(margin)
    random, each = Random(0), list(of.values())
    draws = []
    for _ in range(2000):
        drawn = [margin for question in random.choices(each, k=len(each)) for margin in question]
        draws.append((sum(margin > 0 for margin in drawn) / len(drawn), sum(drawn) / len(drawn)))
    shares, means = (sorted(values) for values in zip(*draws, strict=True))
    return {
        "questions": len(each),
        "pairs": len(found),
        "accuracy": sum(margin > 0 for margin in found) / len(found),
        "accuracy_95": [shares[50], shares[1949]],
        "mean_margin": sum(found) / len(found),
        "mean_margin_95": [means[50], means[1949]],
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Both trainings and the count."""
    work, small = args.work, args.rows is not None
    work.mkdir(parents=True, exist_ok=True)
    pairs, aside, questions = read_pairs(args.gsm8k / "example_model_solutions.jsonl")
    questions_aside = len({pair["prompt"][0]["content"] for pair in aside})
    if args.pairs:
        pairs, aside = pairs[: args.pairs], aside[: max(8, args.pairs // 2)]
    write(work / "pairs.jsonl", pairs)
    write(work / "aside.jsonl", aside)
    rows = [json.loads(line) for line in (args.gsm8k / "train.jsonl").read_text(encoding="utf-8").splitlines()][: args.rows]
    assert not {row["question"] for row in rows} & set(questions), "no question of the pairs is trained on"
    write(work / "train.jsonl", rows)
    batch = args.batch or (4 if small else 64)
    shared = {"model": args.model, "dtype": "float32", "batch": batch, "logging": 1 if small else 5}
    sft, sft_seconds = train(
        work,
        "sft",
        SFT.format(**shared, about="", train="train.jsonl", columns="{user: question, assistant: answer}", evaluation="", rate=2e-4)
        + f"  num_train_epochs: {args.sft_epochs}\n",
        args.cpu,
    )
    columns = "{prompt: prompt, chosen: chosen, rejected: rejected}"
    steps = math.ceil(len(pairs) / batch) * args.dpo_epochs
    dpo, dpo_seconds = train(
        work,
        "dpo",
        DPO.format(
            **shared,
            about=f", adapter: {sft.adapter}",
            train="pairs.jsonl",
            columns=columns,
            evaluation=f"  eval: [{{path: aside.jsonl, columns: {columns}}}]\n",
            rate=args.dpo_rate,
            every=max(1, steps // 8),
        )
        + f"  num_train_epochs: {args.dpo_epochs}\n",
        args.cpu,
    )
    curves = read_curves(dpo.journal)
    losses = list(read_curves(sft.journal)["loss"].values)
    return {
        "schema": 1,
        "versions": installed(),
        "sft": {"rows": len(rows), "epochs": args.sft_epochs, "first_loss": losses[0], "last_loss": losses[-1], "seconds": sft_seconds},
        "questions": {
            "both": len(questions),
            "aside": questions_aside,
            "sha256": sha256("\n".join(sorted(questions)).encode()).hexdigest(),
        },
        "dpo": {
            "pairs": len(pairs),
            "epochs": args.dpo_epochs,
            "learning_rate": args.dpo_rate,
            "seconds": dpo_seconds,
            "margins": [round(value, 4) for value in curves["rewards/margins"].values],
            "eval_steps": [int(step) for step in curves["eval_rewards/margins"].steps],
            "eval_margins": [round(value, 4) for value in curves["eval_rewards/margins"].values],
            "eval_accuracies": [round(value, 4) for value in curves["eval_rewards/accuracies"].values],
        },
        "aside": accuracy(aside, list(margins(args.model, sft.adapter, dpo.adapter, aside, args.cpu))),
        "runs": [str(sft.path), str(dpo.path)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "gsm8k", "work"):
        parser.add_argument(f"--{name}", type=lambda text: Path(text).resolve(), required=True)
    parser.add_argument("--rows", type=int, help="only so many rows of GSM8K's train set")
    parser.add_argument("--pairs", type=int, help="only so many pairs, and half as many put aside")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--sft-epochs", type=int, default=2)
    parser.add_argument("--dpo-epochs", type=int, default=1)
    parser.add_argument("--dpo-rate", type=float, default=5e-5)
    parser.add_argument("--cpu", action="store_true")
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
