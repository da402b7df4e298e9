"""What a person may name as the model to chat with, measure, merge or publish, and what is said when it is none."""

import json
import os
from pathlib import Path

import pytest

from tuitune.after.source import Source, base_of, find_source
from tuitune.errors import UserError
from tuitune.runs.checkpoints import MARK
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.manifest import Manifest, write_manifest

RECIPE = """\
name: gsm
task: sft
model: {name_or_path: models/base, revision: v2, trust_remote_code: true}
quantization: {load_in_4bit: true}
peft: {r: 4}
dataset: {train: [{path: rows.jsonl}]}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    model(tmp_path / "models" / "base")
    return tmp_path


def model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    return folder


def adapter(folder: Path, base: str | None = "models/base", weights: str = "adapter_model.safetensors") -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "revision": "v1"}))
    (folder / weights).touch()
    return folder


def a_run(workspace: Path, recipe: str = RECIPE, **manifest: object) -> RunDirectory:
    run = create_run(workspace / "runs", "gsm", recipe)
    write_manifest(run, Manifest("gsm", recipe_path=str(workspace / "gsm.yaml"), **manifest))  # type: ignore[arg-type]
    return run


def checkpoint(run: RunDirectory, step: int, whole: bool = True) -> Path:
    folder = adapter(run.checkpoints / f"checkpoint-{step}")
    if whole:
        (folder / MARK).write_text(json.dumps({"files": {}}))
    return folder


def refused(text: str, workspace: Path) -> str:
    with pytest.raises(UserError) as error:
        find_source(text, workspace)
    return str(error.value)


def test_a_run_means_its_result_over_the_model_of_its_recipe(workspace: Path) -> None:
    run = a_run(workspace)
    checkpoint(run, 10)
    result = adapter(run.adapter)
    os.utime(run.checkpoints / "checkpoint-10", (1, 1))
    found = find_source("gsm", workspace)
    assert found == find_source(run.name, workspace) == find_source(str(run.path), workspace)
    assert (found.base, found.revision, found.adapter) == (str(workspace / "models/base"), "v2", result)
    assert (found.kind, found.quantized, found.run, found.words, found.name) == ("adapter", True, run, run.name, "gsm")
    assert found.trust_remote_code, "its recipe says so"
    assert find_source(found.reference, Path("/")).adapter == result


def test_a_run_without_a_result_means_its_newest_whole_checkpoint(workspace: Path) -> None:
    run = a_run(workspace)
    assert "nothing to work on yet" in refused("gsm", workspace)
    older = checkpoint(run, 10)
    checkpoint(run, 20, whole=False)
    found = find_source("gsm", workspace)
    assert (found.adapter, found.words) == (older, f"{run.name}, checkpoint-10")


def test_a_run_that_went_on_means_the_checkpoint_that_is_newer_than_its_result(workspace: Path) -> None:
    run = a_run(workspace)
    os.utime(adapter(run.adapter), (1, 1))
    assert find_source("gsm", workspace).adapter == run.adapter
    newer = checkpoint(run, 30)
    assert find_source("gsm", workspace).adapter == newer


def test_a_checkpoint_s_folder_belongs_to_its_run(workspace: Path) -> None:
    run = a_run(workspace)
    folder = checkpoint(run, 10)
    found = find_source(os.path.relpath(folder, workspace), workspace)
    assert (found.run, found.words, found.base) == (run, f"{run.name}/checkpoints/checkpoint-10", str(workspace / "models/base"))


def test_the_result_of_full_fine_tuning_is_a_model_whose_base_is_known(workspace: Path) -> None:
    run = a_run(workspace, RECIPE.replace("peft: {r: 4}\n", "").replace("quantization: {load_in_4bit: true}\n", ""))
    model(run.adapter)
    found = find_source("gsm", workspace)
    assert (found.kind, found.base, found.adapter, found.quantized) == ("model", str(run.adapter), None, False)
    assert base_of(found).base == str(workspace / "models/base")


def test_the_base_of_an_adapter_is_its_model(workspace: Path) -> None:
    run = a_run(workspace)
    adapter(run.adapter)
    base = base_of(find_source("gsm", workspace))
    assert (base.kind, base.base, base.revision, base.adapter) == ("model", str(workspace / "models/base"), "v2", None)


def test_an_adapter_from_elsewhere_names_its_model_itself(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    folder = adapter(workspace / "elsewhere")
    found = find_source("elsewhere", workspace)
    assert (found.base, found.revision, found.adapter, found.recipe) == (str(workspace / "models/base"), "v1", folder, None)
    assert not found.trust_remote_code
    adapter(workspace / "nameless", base=None)
    assert "does not say which model it belongs to" in refused("nameless", workspace)


def test_pickled_adapters_are_refused(workspace: Path) -> None:
    adapter(workspace / "old", weights="adapter_model.bin")
    assert "tuitune loads no pickled weights" in refused("old", workspace)


def test_a_model_s_folder_is_a_model_without_a_known_base(workspace: Path) -> None:
    found = find_source("models/base", workspace)
    assert (found.kind, found.base, found.name, found.hub_names) == ("model", str(workspace / "models/base"), "base", [])
    with pytest.raises(UserError, match="is a base model itself"):
        base_of(found)


def test_a_job_that_has_made_a_model_can_be_named(workspace: Path) -> None:
    run = a_run(workspace, kind="merge")
    merged = model(run.path / "merged")
    assert "has left no model" in refused(run.name, workspace)
    (run.journal / "trainer-1.jsonl").write_text(json.dumps({"v": 1, "n": 0, "ev": "end", "result": {"path": str(merged)}}) + "\n")
    found = find_source(run.name, workspace)
    assert (found.base, found.kind) == (str(merged), "model")
    assert base_of(found).base == str(workspace / "models/base")


def test_a_name_that_is_nothing_is_told_with_what_there_is(workspace: Path) -> None:
    a_run(workspace)
    assert "./nowhere does not exist" in refused("./nowhere", workspace)
    assert "is no run here, no folder and no Hub id" in refused("no such: thing", workspace)
    (workspace / "empty").mkdir()
    assert "has neither an adapter" in refused("empty", workspace)


def test_a_model_of_the_hub_s_cache_is_found_without_a_network(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda name, file: "/cache/config.json" if file == "config.json" else None
    )
    found = find_source("org/name", workspace)
    assert found == Source("org/name", "org/name", None, None, None, None, "model", False)
    assert found.hub_names == ["org/name"]


def test_only_recipes_of_this_workspace_allow_a_models_own_code(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    run = a_run(workspace)
    adapter(run.adapter)
    source = find_source(str(run.path), workspace)
    assert source.trust_remote_code
    assert not source.over("other/model").trust_remote_code, "that one was not allowed"
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert not find_source(str(run.path), elsewhere).trust_remote_code, "a folder that came from somebody"
