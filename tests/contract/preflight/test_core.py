"""Preflight as a whole: which stages run, what stops them, and what is said then."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.support.planted import alarms, check, finding, ids, plant
from tuitune.analyst.render_watch import RenderWatch
from tuitune.analyst.survey import survey
from tuitune.dataset.load import load_split
from tuitune.dataset.looked_at import compare
from tuitune.recipe.recipe import load_recipe


def test_a_sound_workspace_raises_no_alarm(tmp_path: Path, tiny_model: Path) -> None:
    report = check(plant(tmp_path, model=tiny_model).recipe)
    assert alarms(report) == []
    assert "TOK01" in report.ran


def test_a_finding_says_where_what_and_why(tmp_path: Path, tiny_model: Path) -> None:
    def cut_embedding(model: Path) -> None:
        weights = load_file(model / "model.safetensors")
        weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:40].clone()
        save_file(weights, model / "model.safetensors", metadata={"format": "pt"})

    report = check(plant(tmp_path, model=tiny_model, change=cut_embedding).recipe)
    assert {"TOK01", "EMB01"} <= ids(report, "error")
    found = finding(report, "EMB01")
    assert found.evidence == {"tensor": "model.embed_tokens.weight", "rows": 40, "vocab_size": 448}
    assert found.where.file.endswith("model.safetensors")


def test_what_cannot_be_checked_is_an_error_and_said_once(tmp_path: Path, tiny_model: Path) -> None:
    def break_tokenizer(model: Path) -> None:
        (model / "tokenizer.json").write_text("{")

    report = check(plant(tmp_path, model=tiny_model, change=break_tokenizer).recipe)
    assert len([found for found in report.findings if found.id == "PRE01"]) == 1
    assert "TOK01" in report.skipped


def test_a_model_that_is_not_there_is_said_once_though_nobody_finds_it(tmp_path: Path, tiny_model: Path) -> None:
    place = plant(tmp_path, model=tiny_model)
    shutil.rmtree(place.model)
    report = check(place.recipe)
    assert [found.id for found in report.findings] == ["PRE01"]


def test_a_recipe_with_errors_is_told_by_its_own_problems(tmp_path: Path, tiny_model: Path) -> None:
    report = check(plant(tmp_path, model=tiny_model, training={"max_seq_length": 64}).recipe)
    assert finding(report, "TRN03").where.key == "training.max_seq_length"
    assert not report.ran or set(report.ran) == {"TRN03"} or "TOK01" in report.skipped


def test_findings_survive_the_way_through_json(tmp_path: Path, tiny_model: Path) -> None:
    from tuitune.preflight.finding import as_json, from_json

    report = check(plant(tmp_path, model=tiny_model, training={"max_seq_length": 64}).recipe)
    assert [from_json(json.loads(json.dumps(as_json(found)))) for found in report.findings] == report.findings


def test_a_quick_preparation_that_differs_from_the_trainers_is_an_error(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuitune.analyst.proven_set.differs", lambda truth, found: "the quick preparation differs from TRL's in labels")
    report = check(plant(tmp_path, model=tiny_model).recipe)
    assert finding(report, "PRE02").severity == "error"


def test_what_was_checked_is_what_the_trainer_compares_with(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = plant(tmp_path, model=tiny_model, training={"max_length": 100}).recipe
    monkeypatch.setattr("tuitune.analyst.survey.remember", lambda *seen: None)
    check(recipe)
    loaded = load_recipe(recipe)
    found = survey(load_recipe(recipe), RenderWatch(), lambda text: None)
    assert found.sha256 is not None
    assert compare(loaded, load_split(loaded.dataset["train"]).fingerprint(), found.sha256) == ("same", "")
