"""`tuitune eval`: what its words become, and what it prints of a job's report."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.unit.after.test_figures import document
from tuitune.after.chat_start import BESIDE
from tuitune.after.evaluation_command import BATCH, job_arguments, print_document, start_evaluation
from tuitune.after.forgetting import LIMIT, changes, warning
from tuitune.command_line import build_parser
from tuitune.errors import UserError
from tuitune.trainer.forgetting import Text


def parsed(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(["eval", "run", *words])


def arguments(folder: Path, *words: str) -> dict[str, Any]:
    return job_arguments(parsed(*words), folder)


def test_without_options_everything_is_the_recipes_and_the_jobs_own(tmp_path: Path) -> None:
    assert arguments(tmp_path) == {"max_new_tokens": 256}


def started_with(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> dict[str, Any]:
    """The arguments of the job that `tuitune eval MODEL WORDS` starts; the model has 100,000 weights outside and as many inside layers."""
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    tensors = {"model.embed_tokens.weight": (1000, 100), "model.layers.0.mlp.up_proj.weight": (1000, 100)}
    header = {name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} for name, shape in tensors.items()}
    text = json.dumps(header).encode()
    (folder / "model" / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    found: dict[str, Any] = {}
    monkeypatch.setattr("tuitune.after.evaluation_command.start_job", lambda kind, args, source, workspace: found.update(args))
    start_evaluation(str(folder / "model"), arguments(folder, *words), folder)
    return found


def test_it_says_what_it_needs_of_a_gpu_that_a_training_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert started_with(tmp_path, monkeypatch)["gpu_bytes"] == 400_000 + BESIDE + BATCH


def test_on_the_cpu_it_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "gpu_bytes" not in started_with(tmp_path, monkeypatch, "--cpu")


def test_files_become_absolute_and_columns_belong_to_each(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.csv", "general.txt"):
        (tmp_path / name).write_text("x")
    made = arguments(
        tmp_path, "--data", "a.jsonl", "--data", "b.csv", "--columns", "user=q, assistant=a", "--forgetting", "general.txt", "--cpu"
    )
    columns = {"user": "q", "assistant": "a"}
    assert made["data"] == [{"path": str(tmp_path / name), "columns": columns} for name in ("a.jsonl", "b.csv")]
    assert (made["forgetting"], made["gpus"]) == (str(tmp_path / "general.txt"), "cpu")


def test_a_name_that_is_no_file_may_be_a_data_set_of_the_hub(tmp_path: Path) -> None:
    assert arguments(tmp_path, "--data", "openai/gsm8k")["data"] == [{"path": "openai/gsm8k"}]


def test_metrics_precision_and_comparison_are_passed_on(tmp_path: Path) -> None:
    made = arguments(tmp_path, "--answer-regex", "#### (.*)", "--4bit", "--against", "none", "--rows", "9", "--max-new-tokens", "32")
    assert made == {
        "metrics": ["nll", "regex"],
        "pattern": "#### (.*)",
        "four_bit": True,
        "against": "none",
        "rows": 9,
        "max_new_tokens": 32,
    }
    assert arguments(tmp_path, "--16bit")["four_bit"] is False


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--data", "gone.jsonl"], "gone.jsonl is no file here"),
        (["--columns", "user=q"], "--columns belongs to --data"),
        (["--data", "a.jsonl", "--columns", "user"], "write TARGET=COLUMN"),
        (["--rows", "0"], "--rows must be at least 1"),
        (["--forgetting", "gone.txt"], "gone.txt is no file here"),
    ],
)
def test_words_that_mean_nothing_are_wrong_usage(tmp_path: Path, words: list[str], told: str) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(UserError, match=re.escape(told)) as raised:
        arguments(tmp_path, *words)
    assert raised.value.exit_code == 2


def test_the_harness_is_asked_for_before_anything_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuitune.after.harness.installed", lambda: None)
    with pytest.raises(UserError, match="pip install lm_eval"):
        arguments(tmp_path, "--harness", "arc_easy")
    monkeypatch.setattr("tuitune.after.harness.installed", lambda: "0.4")
    assert arguments(tmp_path, "--harness", "arc_easy, mmlu")["harness"] == ["arc_easy", "mmlu"]


def test_the_figures_are_printed_as_tables_and_foreign_words_stay_words(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [Text("[red]code\x1b", "…")] * 6
    found = changes(texts, [(10.0, 10)] * 6, [(14.0, 10)] * 6)
    forgetting = {"probe": "builtin", "limit": LIMIT, "skills": [one.as_dict() for one in found]}
    told = warning(found)
    print_document(document(forgetting=forgetting, warnings=[told]), Console(highlight=False, soft_wrap=True, width=160))
    out = capsys.readouterr().out
    assert re.search(r"NLL, nats a token +2\.350 +1\.350 +-1\.000 +-1\.000 to -1\.000 +8", out)
    assert re.search(r"\[red\]code␛ \(forgotten\) +1\.000 +1\.400 +\+0\.400", out)
    assert "warning: the model has forgotten" in out
    assert "\x1b" not in out
