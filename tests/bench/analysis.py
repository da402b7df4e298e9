"""A whole set through a warm analyst, and how fast it tokenises against the Rust tokenizer alone (DESIGN.md, section 8).

Needs the demo model (~/.cache/tuitune) and GSM8K-like rows, which are made here: the length of real ones, no row twice.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from tuitune.analyst.client import Analyst
from tuitune.demo.model import NAME
from tuitune.errors import UserError
from tuitune.files import cache_dir

ROWS = 10_000
WORDS = (
    "Natalia sold 48 clips in April to her friends and then half as many each week of May so how many clips were there altogether when "
    "the bakery bought 120 boxes at $3.50 with 15% off minus 7 hours of work by James who earns twice what Maria earns per day plus tips"
).split()
RECIPE = """task: sft
model: {{name_or_path: {model}}}
dataset: {{train: [{{path: rows.jsonl, columns: {{user: question, assistant: answer}}}}]}}
training: {{max_length: 512}}
"""


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a survey of ROWS rows; tokens a second of the tokenising part and of encode_batch."""
    model = cache_dir() / "models" / NAME
    if not (model / "tokenizer.json").exists():
        raise SystemExit(f"{model} is not there; `tuitune demo` fetches it")
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder, "recipe.yaml")
        recipe.write_text(RECIPE.format(model=model))
        write_rows(Path(folder, "rows.jsonl"))
        surveys = survey(recipe, arguments.runs)
        speed = [json.loads(tokenise(recipe)) for _ in range(arguments.runs)]
    return {
        "rows": ROWS,
        "survey": surveys,
        "survey_s": median(found["seconds"] for found in surveys),
        "tokens_per_second": median(run["ours"] for run in speed),
        "encode_batch_tokens_per_second": median(run["encode_batch"] for run in speed),
        "of_encode_batch": round(median(run["ours"] / run["encode_batch"] for run in speed), 2),
    }


def write_rows(path: Path) -> None:
    """Questions of 30 to 80 words, answers of 50 to 150."""
    random = Random(0)

    def text(low: int, high: int) -> str:
        return " ".join(random.choice(WORDS) for _ in range(random.randint(low, high)))

    path.write_text("".join(json.dumps({"question": text(30, 80), "answer": text(50, 150)}) + "\n" for _ in range(ROWS)))


def survey(recipe: Path, runs: int) -> list[dict[str, Any]]:
    """Each run's wall seconds as the asker sees them, its phases and what it found."""
    analyst = Analyst()
    try:
        analyst.request("inspect", {"recipe": str(recipe), "rows": [0]})  # warm
        found = []
        for _ in range(runs):
            started = time.monotonic()
            answer = analyst.request("survey", {"recipe": str(recipe)})
            took = time.monotonic() - started
            if answer["prepared_by"] != "quick":
                raise UserError(answer["difference"])
            found.append({"seconds": round(took, 2), "phases": answer["seconds"], "tokens": answer["tokens"]})
        return found
    finally:
        analyst.close()


def tokenise(recipe: Path) -> str:
    """JSON of tokens a second, from a process of its own: threads must not be there before it forks."""
    code = "import sys; from tests.bench.analysis import compare; compare(sys.argv[1])"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "true"}
    return subprocess.run(
        [sys.executable, "-c", code, str(recipe)], env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]


def compare(recipe: str) -> None:
    """Print tokens a second over the rendered rows: ours (a call a text, in a process a core) and encode_batch (its threads)."""
    import transformers

    from tuitune.analyst.quick_rows import quick
    from tuitune.analyst.shards import sharded
    from tuitune.dataset.load import load_split
    from tuitune.recipe.recipe import load_recipe

    loaded = load_recipe(Path(recipe))
    tokenizer = transformers.AutoTokenizer.from_pretrained(loaded.model["name_or_path"])
    rows = load_split(loaded.dataset["train"]).rows
    texts = [tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False) for row in rows]
    ours = quick(tokenizer)

    def part(_slot: int, numbers: range) -> int:
        tokens = 0
        for at in numbers:
            tokens += len(ours(texts[at], add_special_tokens=False)["input_ids"])
            ours.take_calls()
        return tokens

    started = time.monotonic()
    tokens = sum(sharded(len(texts), part, most=8))
    between = time.monotonic()
    batch = sum(len(encoding.ids) for encoding in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False))
    ended = time.monotonic()
    assert tokens == batch
    print(json.dumps({"ours": round(tokens / (between - started)), "encode_batch": round(tokens / (ended - between))}))
