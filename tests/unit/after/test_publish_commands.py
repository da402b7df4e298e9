"""What merge, export and push say before anything starts: in this process, without a job."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.results import ended_run
from tuitune import cli
from tuitune.after.merge_plan import why_stale
from tuitune.after.source import find_source
from tuitune.files import file_hash
from tuitune.runs.directory import RunDirectory

Ran = tuple[int, str, str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLAMA_CPP_DIR", raising=False)
    return ended_run(tmp_path)


@pytest.fixture
def tuitune(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def command(*words: str) -> Ran:
        code = cli.main(list(words))
        return (code, *capsys.readouterr())

    return command


def test_a_dry_run_lists_every_file_with_size_and_origin_and_starts_nothing(run: RunDirectory, tuitune: Callable[..., Ran]) -> None:
    code, out, _ = tuitune("push", run.name, "jane/log", "--dry-run")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("jane/log (private): 6 files, ")
    (weights,) = [line for line in lines if line.startswith("  adapter_model.safetensors")]
    file = run.adapter / "adapter_model.safetensors"
    assert weights.split()[1:] == [f"{file.stat().st_size:,}", "B", str(file)]
    assert "stays here: " in lines[-1]
    assert "training_args.bin" in lines[-1]
    assert [path.name for path in run.path.parent.iterdir()] == [run.name]


def test_public_is_said_aloud(run: RunDirectory, tuitune: Callable[..., Ran]) -> None:
    assert tuitune("push", run.name, "jane/log", "--dry-run", "--public")[1].startswith("jane/log (PUBLIC)")


def test_the_document_of_a_dry_run_has_the_card(run: RunDirectory, tuitune: Callable[..., Ran]) -> None:
    document = json.loads(tuitune("push", run.name, "jane/log", "--dry-run", "--json")[1])
    assert (document["schema"], document["dry_run"], document["kind"]) == (1, True, "adapter")
    assert document["card"].startswith("---\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["push", "{run}", "jane/log", "--merged", "--dry-run"], "is not merged yet: tuitune merge"),
        (["push", "{run}", "log", "--dry-run"], "say whose repository it is"),
        (["push", "nobody/nothing-here", "jane/log", "--dry-run"], "nobody/nothing-here"),
        (["export", "{run}", "--to", "gguf"], "set LLAMA_CPP_DIR to it or name its convert_hf_to_gguf.py"),
        (["merge", "{run}", "--out", "data"], "holds something that is no merged model"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_no_job(
    run: RunDirectory, tuitune: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, words: list[str], why: str
) -> None:
    monkeypatch.setenv("PATH", str(run.path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    Path("data").mkdir()
    (Path("data") / "thesis.tex").write_text("x")
    code, out, err = tuitune(*[run.name if word == "{run}" else word for word in words])
    assert code in (1, 2)
    assert out == ""
    assert why in err
    assert [path.name for path in run.path.parent.iterdir()] == [run.name]


def test_a_merged_folder_is_pushed_as_a_model_of_its_base(run: RunDirectory, tuitune: Callable[..., Ran]) -> None:
    merged = run.path / "merged"
    merged.mkdir()
    (merged / "config.json").write_text('{"model_type": "llama", "dtype": "bfloat16"}')
    shutil.copy(run.adapter / "adapter_model.safetensors", merged / "model.safetensors")
    weights = file_hash(run.adapter / "adapter_model.safetensors")
    check = {"passed": True, "words": "20 of 20 greedy answers are equal"}
    record = {"base": "/home/jane/models/SmolLM2-135M-Instruct", "adapter_sha256": weights, "check": check}
    (merged / "merge.json").write_text(json.dumps(record))
    document = json.loads(tuitune("push", run.name, "jane/log", "--merged", "--dry-run", "--json")[1])
    assert (document["kind"], sorted(file["name"] for file in document["files"])) == (
        "model",
        ["README.md", "config.json", "model.safetensors"],
    )
    assert "merge.json" in document["left"]
    assert "20 of 20 greedy answers are equal" in document["card"]
    assert "/home/jane" not in document["card"]


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"adapter_sha256": "of an earlier one"}, "is the merge of another adapter"),
        ({"check": {"passed": False, "words": "too far"}}, "too far"),
    ],
)
def test_a_merge_that_is_old_or_failed_its_check_is_not_pushed(
    run: RunDirectory, tuitune: Callable[..., Ran], record: dict[str, Any], why: str
) -> None:
    merged = run.path / "merged"
    merged.mkdir()
    weights = file_hash(run.adapter / "adapter_model.safetensors")
    (merged / "merge.json").write_text(json.dumps({"adapter_sha256": weights, **record}))
    code, out, err = tuitune("push", run.name, "jane/log", "--merged", "--dry-run")
    assert (code, out) == (1, "")
    assert why in err
    assert f"merge anew: tuitune merge {run.name}" in err


def test_a_merge_over_another_base_is_not_taken_for_this_one(run: RunDirectory) -> None:
    """`export --base OTHER` after a merge into the adapter's own base merges anew."""
    source = find_source(str(run.path), run.path.parent.parent)
    merged = run.path / "merged"
    merged.mkdir()
    record = {"adapter_sha256": file_hash(run.adapter / "adapter_model.safetensors"), "base": source.base, "revision": source.revision}
    (merged / "merge.json").write_text(json.dumps(record))
    assert why_stale(merged, source) is None
    assert "over another base" in (why_stale(merged, source.over("other/model")) or "")
    assert why_stale(merged, source.over("other/model"), same_base=False) is None
    (merged / "merge.json").write_text("{torn")
    assert "another adapter" in (why_stale(merged, source) or "")
