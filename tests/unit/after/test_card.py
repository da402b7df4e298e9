"""The model card says what the run's records say, and foreign text in it is only shown."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.support.results import ended_run
from tuitune.after.card import Subject, model_card
from tuitune.after.figures import Scores, figures
from tuitune.after.ledger_facts import read_facts
from tuitune.after.markdown import block, code
from tuitune.after.private import public
from tuitune.runs.directory import RunDirectory

SIDES = (("base", 2.0), ("adapter", 1.0))
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return ended_run(tmp_path)


def card(run: RunDirectory, base: str = BASE) -> str:
    return model_card(Subject("jane/captains-log", "adapter", base, read_facts(run), template=True, rank=8))


def test_the_front_matter_is_what_the_hub_reads(run: RunDirectory) -> None:
    data = ModelCard(card(run)).data
    assert (data.base_model, data.library_name, data.pipeline_tag) == (BASE, "peft", "text-generation")
    assert set(data.tags) == {"tuitune", "trl", "sft", "lora"}


def test_a_base_that_the_hub_does_not_know_is_not_in_it(run: RunDirectory) -> None:
    assert ModelCard(card(run, "my-model")).data.base_model is None


def test_the_figures_are_those_of_the_records(run: RunDirectory) -> None:
    text = card(run)
    for line in (
        "| trained parameters | 2,442,240 |",
        "| `r` | `8` |",
        "| `learning_rate` | `0.001` |",
        "| steps | 34 |",
        "| hardware | `CPU` |",
        "| evaluation loss |",
        "- 320 rows, 19,308 tokens (7,446 in the loss)",
        "- `train.jsonl`",
        "transformers 5.23.0",
        "name: captains-log",
        "--max-lora-rank 8",
    ):
        assert line in text, line


def test_evaluations_of_the_run_are_in_it_without_their_rows(run: RunDirectory) -> None:
    nats = {
        side: [Scores(nats=value + at, tokens=2, exact=at > 2 - value, answer="secret row") for at in range(4)] for side, value in SIDES
    }
    report = {"sides": ["base", "adapter"], "figures": [figure.as_dict() for figure in figures(nats)]}
    report["data"] = {"files": ["/home/jane/gsm8k/test.jsonl"], "rows": 4}
    report["rows"] = [{"asked": "secret row"}]
    (run.path / "evaluations").mkdir()
    (run.path / "evaluations" / "1.json").write_text(json.dumps(report))
    (run.path / "evaluations" / "2.json").write_text('{"figures": 3}')
    text = card(run)
    assert "### Evaluation on `test.jsonl`" in text
    assert "| metric | `base` | `adapter` | difference | 95 % interval | rows |" in text
    assert "| 1.750 | 1.250 | -0.500 |" in text
    assert "secret row" not in text


def test_without_a_run_it_says_no_more_than_is_known() -> None:
    text = model_card(Subject("jane/x", "model", "my-model", None, template=False))
    assert "## Training" not in text
    assert "tokenizer('…'" in text


@pytest.mark.parametrize(
    "hostile", ["a`b", "``` \n# Heading", "<script>x</script>", "[x](http://y)", "a|b", "\x1b[31mred", "---\nlicense: x"]
)
def test_foreign_text_stays_text(hostile: str) -> None:
    """One line, one code span, whose fence is longer than any in it."""
    span = code(hostile)
    fence = span[: len(span) - len(span.lstrip("`"))]
    assert span.endswith(fence)
    assert fence not in span[len(fence) : -len(fence)].strip("` ") or len(fence) == 1
    assert not any(sign in span for sign in ("\n", "\x1b", "|"))
    fenced = block(hostile).splitlines()
    assert fenced[0] == fenced[-1]
    assert fenced[0] not in fenced[1:-1]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("path: /home/jane/data/train.jsonl, columns: x", "path: …/train.jsonl, columns: x"),
        ("~/models/base", "…/base"),
        ("HuggingFaceTB/SmolLM2 and data/train.jsonl", "HuggingFaceTB/SmolLM2 and data/train.jsonl"),
        ("https://huggingface.co/a/b", "https://huggingface.co/a/b"),
        ("and/or </think> /no_think", "and/or </think> /no_think"),
    ],
)
def test_folders_of_this_box_are_cut_to_their_last_part(text: str, wanted: str) -> None:
    assert public(text) == wanted
