"""`python -m tests.bench [NAME …]` runs benches and prints one JSON document; without a name, all that need nothing but this box.

A bench is a module with `bench(arguments) -> dict`. (tests/bench/gpu.py is run by itself: it needs a CUDA box and its own arguments.)
"""

import argparse
import importlib
import json
import os
import sys
from datetime import UTC, datetime

BENCHES = {
    "terminal": "tests.bench.terminal",
    "analysis": "tests.bench.analysis",
    "big-files": "tests.bench.big_files",
    "plan": "tests.bench.plan",
}
BY_NAME = {
    "preflight": "tests.bench.preflight",
    "control-cost": "tests.bench.control_cost",
}  # need more than this box has: run when they are named


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES | BY_NAME))
    parser.add_argument("--runs", type=int, default=3, help="starts of each program; figures are medians over them")
    parser.add_argument("--only", default="", help="parts of a bench, comma separated (terminal: start,keys,slow,busy,training,hangup)")
    parser.add_argument("--stock", action="store_true", help="without the cell diff, to see what it saves")
    parser.add_argument("--gsm8k", default="../shared/data/gsm8k", help="preflight: folder with train.jsonl and test.jsonl")
    parser.add_argument("--model", help="preflight: another folder than the demo model's")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(BENCHES | BY_NAME)):
        parser.error(f"no bench named {', '.join(unknown)}; there are: {', '.join(BENCHES | BY_NAME)}")
    result = {
        "schema": 1,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
        "python": sys.version.split()[0],
        "benches": {name: importlib.import_module((BENCHES | BY_NAME)[name]).bench(arguments) for name in arguments.names or BENCHES},
    }
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
