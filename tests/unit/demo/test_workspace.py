"""The demo workspace: a recipe that is in order, data beside it, and nothing of the user's is overwritten."""

from pathlib import Path

import pytest

from tuitune.dataset.load import load_split
from tuitune.demo import workspace
from tuitune.demo.headless import Story
from tuitune.demo.workspace import make_demo
from tuitune.errors import UserError
from tuitune.recipe.document import parse
from tuitune.recipe.recipe import from_document


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(workspace, "demo_model", lambda say: tmp_path / "a model")
    return tmp_path / "a model"


def test_the_recipe_names_the_model_and_data_that_are_there(tmp_path: Path, model: Path) -> None:
    path = make_demo(tmp_path / "demo")
    document = parse(path.read_text(), path)
    assert not document.problems
    recipe = from_document(document, path, path.parent)
    assert recipe.model["name_or_path"] == str(model)
    train, held_out = load_split(recipe.dataset["train"]), load_split(recipe.dataset["eval"], "eval")
    assert train.format == held_out.format == "prompt-completion (conversational)"
    assert len(held_out.rows) == 24
    assert len(train.rows) > 24


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    path = make_demo(tmp_path / "demo")
    path.write_text("mine")
    (path.parent / "data" / "train.jsonl").write_text("mine too")
    assert make_demo(tmp_path / "demo") == path
    assert path.read_text() == "mine"
    assert (path.parent / "data" / "train.jsonl").read_text() == "mine too"


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="tuitune demo DIR"):
        make_demo(tmp_path / "file" / "demo")


def test_the_story_of_a_headless_run_keeps_what_its_last_lines_need() -> None:
    story = Story()
    records = [
        {"ev": "data", "eval_rows": 24},
        {"ev": "eval", "step": 0, "metrics": {"eval_loss": 4.0}},
        *({"ev": "metrics", "step": step, "max_steps": 12, "loss": 5.0 - step / 10} for step in range(1, 13)),
        {"ev": "metrics", "step": 13, "loss": "nan"},
        {"ev": "eval", "step": 12, "metrics": {"eval_loss": 1.5}},
        {"ev": "state", "s": "done"},
    ]
    lines = [line for record in records for line in story.read(record)]
    assert (story.state, story.eval_rows, story.eval_losses) == ("done", 24, [4.0, 1.5])
    assert (story.losses[0], story.losses[11]) == (4.9, 3.8)
    assert [line.split("step ")[1].split()[0] for line in lines if "  loss" in line] == ["1/12", "10/12", "11/12"]
