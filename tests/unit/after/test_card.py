"""The model card says what the run's records say, and foreign text in it is only shown."""

import json
import time
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.support.results import ended_run, make_adapter
from tuitune.after.card import Subject, model_card
from tuitune.after.figures import Scores, figures
from tuitune.after.ledger_facts import adapter_hash, name_in, read_facts, weights_of
from tuitune.after.markdown import block, code
from tuitune.after.private import public
from tuitune.runs.directory import RunDirectory

SIDES = (("base", 2.0), ("adapter", 1.0))
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return ended_run(tmp_path)


def card(run: RunDirectory, base: str = BASE, folder: Path | None = None) -> str:
    facts = read_facts(run)
    weights = weights_of(folder or run.adapter, facts)
    return model_card(Subject("jane/captains-log", "adapter", base, facts, template=True, rank=8, weights=weights))


def report_on(folder: Path, run: RunDirectory, words: str, loss: float = 1.0, **source: object) -> None:
    """An evaluation of the weights in `folder`, as the job leaves it in the run."""
    nats = {side: [Scores(nats=value, tokens=1) for _ in range(4)] for side, value in (("base", 2.0), ("adapter", loss))}
    document = {
        "created": time.time() + 1,
        "sides": ["base", "adapter"],
        "source": {"words": words, "folder": name_in(run, folder), "adapter_sha256": adapter_hash(folder)} | source,
        "figures": [figure.as_dict() for figure in figures(nats)],
        "data": {"files": ["/home/jane/test.jsonl"], "rows": 4},
    }
    (run.path / "evaluations").mkdir(exist_ok=True)
    (run.path / "evaluations" / f"{words[-1]}.json").write_text(json.dumps(document))


def checkpoint(run: RunDirectory, step: int) -> Path:
    """A checkpoint whose adapter is not the final one."""
    folder = make_adapter(run.checkpoints / f"checkpoint-{step}")
    with (folder / "adapter_model.safetensors").open("ab") as file:
        file.write(b"other")
    return folder


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
        "| evaluation loss | 1.473 (step 20) | 1.398 (step 34) |",
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
    report["source"] = {"words": "run", "adapter_sha256": adapter_hash(run.adapter)}
    (run.path / "evaluations").mkdir()
    (run.path / "evaluations" / "1.json").write_text(json.dumps(report))
    (run.path / "evaluations" / "2.json").write_text('{"figures": 3}')
    text = card(run)
    assert "### Evaluation on `test.jsonl`" in text
    assert "| metric | `base` | `adapter` | difference | 95 % interval | rows |" in text
    assert "| 1.750 | 1.250 | -0.500 |" in text
    assert "secret row" not in text


def test_an_evaluation_of_a_checkpoint_is_told_apart_from_those_of_the_final_adapter(run: RunDirectory) -> None:
    report_on(run.adapter, run, "captains-log-1", loss=1.25)
    report_on(checkpoint(run, 20), run, "captains-log-1, checkpoint-20", loss=1.75)
    own, _, others = card(run).partition("### Evaluations of other weights of this run")
    assert "### Evaluation on `test.jsonl`" in own
    assert "1.250" in own
    assert "1.750" not in own
    assert "#### Evaluation of `captains-log-1, checkpoint-20` on `test.jsonl`" in others
    assert "1.750" in others


def test_of_a_published_checkpoint_its_own_figures_come_first(run: RunDirectory) -> None:
    folder = checkpoint(run, 20)
    report_on(run.adapter, run, "captains-log-1", loss=1.25)
    report_on(folder, run, "captains-log-1, checkpoint-20", loss=1.75)
    text = card(run, folder=folder)
    own, _, others = text.partition("### Evaluations of other weights of this run")
    assert "| steps | 34; these weights are of step 20 |" in text
    assert "| evaluation loss | 1.473 (step 20) | 1.473 (step 20) |" in own
    assert "1.750" in own
    assert "1.250" in others


def test_an_evaluation_of_an_adapter_that_was_trained_on_since_is_of_other_weights(run: RunDirectory) -> None:
    report_on(run.adapter, run, "captains-log-1", adapter_sha256="0" * 64)
    assert "### Evaluations of other weights" in card(run)


def test_a_whole_model_is_known_by_its_folder_and_the_time(run: RunDirectory) -> None:
    (run.adapter / "adapter_model.safetensors").rename(run.adapter / "model.safetensors")
    report_on(run.adapter, run, "full-1")
    report_on(run.adapter, run, "full-2", loss=1.5)
    file = run.path / "evaluations" / "2.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"created": 1.0}))
    own, _, others = card(run).partition("### Evaluations of other weights")
    assert "1.000" in own
    assert "1.500" not in own
    assert "1.500" in others


def test_a_merge_has_the_figures_of_the_adapter_that_was_merged(run: RunDirectory) -> None:
    report_on(run.adapter, run, "captains-log-1", loss=1.25)
    merged = run.path / "merged"
    merged.mkdir()
    (merged / "merge.json").write_text(json.dumps({"adapter_sha256": adapter_hash(run.adapter)}))
    assert "of other weights" not in card(run, folder=merged)
    assert weights_of(merged, read_facts(run)).step == 34


def test_a_run_that_went_back_to_its_best_checkpoint_shows_the_figures_of_that_step(run: RunDirectory) -> None:
    file = run.journal / "trainer-1.jsonl"
    file.write_text(file.read_text().replace('"kind":"adapter","bytes"', '"kind":"adapter","step":31,"bytes"'))
    text = card(run)
    assert "| steps | 34; these weights are of step 31 |" in text
    assert "| evaluation loss | 1.473 (step 20) | 1.407 (step 31) |" in text


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
