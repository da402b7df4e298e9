"""Whether what is fast learns the same: loss over trained tokens, plain TRL beside tuitune's own choices, a few seeds each. JSON out.

    python -m tests.bench.loss_curves --model DIR --gsm8k DIR --work DIR --out FILE [--cases rows,packed] [--seeds 1,2,3] [--cpu]

A real model on GSM8K. `rows`: the rows of an update are given, plain TRL pads them. `packed`: both pack. All trainings of a case run beside
each other: nothing here is about speed. Compared is the loss, averaged over equal shares of the tokens: what two tools differ by with the
same seed, beside what two seeds of plain TRL differ by. Exit status 1 when the tools differ by more than the seeds do.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any

from tests.bench.throughput import AUTO, JOINED, Case, elsewhere, tuitune
from tuitune.files import write_atomically

SHARES = 8  # of the tokens; the first, where losses fall steeply, is left out
LEARNS = {"learning_rate": 2e-4}
PACKED = {"max_length": 1024, "packing": True, "packing_strategy": "bfd_split"}
CASES = {
    "rows": Case(
        "rows",
        "real",
        32,
        steps=120,
        training={"max_length": 512},
        elsewhere={"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2},
        ours=JOINED,
    ),
    "packed": Case("packed", "real", 8, steps=120, training=PACKED, elsewhere={"per_device_train_batch_size": 8}, ours=AUTO),
}
SMALL = {
    "rows": (4, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}),
    "packed": (2, {"per_device_train_batch_size": 2}),
}


def shares(tokens: Sequence[float], losses: Sequence[float], count: int = SHARES) -> list[float]:
    """The mean loss of each of `count` equal shares of all tokens. tokens: of each update."""
    whole, seen = sum(tokens), 0.0
    found: list[list[tuple[float, float]]] = [[] for _ in range(count)]
    for each, loss in zip(tokens, losses, strict=True):
        found[min(int(count * seen / whole), count - 1)].append((each, loss))
        seen += each
    return [sum(each * loss for each, loss in part) / sum(each for each, _ in part) for part in found]


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """The mean of the absolute differences, without the first share."""
    return statistics.fmean(abs(a - b) for a, b in zip(one[1:], other[1:], strict=True))


def compare(plain: dict[int, list[float]], ours: dict[int, list[float]]) -> dict[str, Any]:
    """By seed: distances between the tools with the same seed, between seeds of plain TRL; the mean signed difference (ours above 0)."""
    return {
        "between_tools": {seed: round(distance(plain[seed], ours[seed]), 4) for seed in plain},
        "between_seeds": [round(distance(plain[a], plain[b]), 4) for a, b in combinations(plain, 2)],
        "ours_above": round(statistics.fmean(b - a for seed in plain for a, b in zip(plain[seed][1:], ours[seed][1:], strict=True)), 4),
        "within_noise": statistics.fmean(distance(plain[seed], ours[seed]) for seed in plain)
        <= max(distance(plain[a], plain[b]) for a, b in combinations(plain, 2)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.loss_curves", description=__doc__.splitlines()[0])
    for name in ("model", "gsm8k", "work", "out"):
        parser.add_argument(f"--{name}", type=lambda text: Path(text).resolve(), required=True)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--cpu", action="store_true", help="small updates, 12 steps, one training at a time")
    args = parser.parse_args()
    if len(args.seeds.split(",")) < 2:
        parser.error("two seeds at least: what they differ by is what the tools may differ by")
    args.work.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"schema": 1, "bench": "loss-curves", "cases": {}}
    passed = True
    for name in args.cases.split(","):
        trained = train_all(CASES[name], [int(seed) for seed in args.seeds.split(",")], args)
        found: dict[str, Any] = {"trainings": trained}
        document["cases"][name] = found
        errors = [one["error"] for one in trained if "error" in one]
        if not errors:
            curves = {
                tool: {one["seed"]: shares(one["tokens"], one["losses"]) for one in trained if one["tool"] == tool}
                for tool in ("plain", "tuitune")
            }
            found |= {"shares": curves, **compare(curves["plain"], curves["tuitune"])}
        passed = passed and bool(found.get("within_noise"))
        write_atomically(args.out, json.dumps(document, indent=1))
        print(name, errors[0][-800:] if errors else {key: value for key, value in found.items() if key not in ("trainings", "shares")})
    return 0 if passed else 1


def train_all(case: Case, seeds: Sequence[int], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Each seed with each tool."""

    def one(wanted: tuple[str, int]) -> dict[str, Any]:
        tool, seed = wanted
        rows, split = SMALL[case.name] if args.cpu else (case.rows, case.elsewhere)
        steps = 12 if args.cpu else case.steps
        mine = Case(case.name, case.shape, rows, False, steps, {**case.training, **LEARNS, "seed": seed}, split, case.ours)
        data, folder = args.gsm8k / "train.jsonl", args.work / f"{case.name}-{tool}-{seed}"
        if tool == "plain":
            return {"tool": tool, "seed": seed, **elsewhere(mine, args.model, data)}
        return {"tool": tool, "seed": seed, **tuitune(tool, mine, args.model, data, folder, args.cpu)}

    with ThreadPoolExecutor(1 if args.cpu else 2 * len(seeds)) as pool:
        return list(pool.map(one, [(tool, seed) for seed in seeds for tool in ("plain", "tuitune")]))


if __name__ == "__main__":
    sys.exit(main())
