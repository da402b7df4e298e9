"""Repaired copies of data: beside the source, named in the recipe, with a report; the source itself is never touched."""

import json
from pathlib import Path
from typing import Any

import pytest

from tuitune.errors import UserError
from tuitune.preflight.finding import DataCopy, Fix
from tuitune.preflight.repair import Applied, apply_fixes, undo
from tuitune.recipe.recipe import load_recipe

RECIPE = "task: sft\nmodel: {name_or_path: org/model}\ndataset:\n  train:\n    - path: data/train.jsonl  # ours\n      max_rows: 3\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    lines = [json.dumps({"question": f"q{n}", "answer": n}) for n in range(4)]
    (tmp_path / "data/train.jsonl").write_text("\n".join([*lines[:2], "{broken", *lines[2:]]) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def fixed(workspace: Path, *copies: DataCopy) -> Applied:
    recipe = workspace / "recipe.yaml"
    return apply_fixes(recipe, recipe.read_text(), [Fix(f"Fix {n}", copies=(copy,)) for n, copy in enumerate(copies)])


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_copy_without_bad_rows_takes_the_place_of_the_source(workspace: Path) -> None:
    before = (workspace / "data/train.jsonl").read_bytes()
    done = fixed(workspace, DataCopy("train", 0, drop=(2,)), DataCopy("train", 0, drop=(0, 2), steps=("as-text",)))
    copy = workspace / "data/train.fixed.jsonl"
    assert rows(copy) == [{"question": f"q{n}", "answer": f"{n}"} for n in (1, 2, 3)]
    assert (workspace / "data/train.jsonl").read_bytes() == before
    assert done.files == [copy, workspace / "data/train.fixed.report.json"]
    (source,) = load_recipe(workspace / "recipe.yaml").dataset["train"]
    assert source == {"path": str(copy), "max_rows": 1}, "the same rows as before, without those that were left out"
    assert "# ours" in done.text


def test_the_report_names_every_row_that_was_left_out_or_changed(workspace: Path) -> None:
    fixed(workspace, DataCopy("train", 0, drop=(2,)), DataCopy("train", 0, steps=("as-text",)))
    report = json.loads((workspace / "data/train.fixed.report.json").read_text())
    assert report["dropped"] == [{"row": 2, "line": 3, "why": ["Fix 0"]}]
    assert report["changed"][2] == {"row": 3, "line": 4, "steps": ["as-text"]}
    assert (report["rows"], report["kept"], report["fixes"]) == (5, 4, ["Fix 0", "Fix 1"])


def test_a_file_that_says_something_else_is_never_overwritten(workspace: Path) -> None:
    (workspace / "data/train.fixed.jsonl").write_text("mine\n")
    (first, _) = fixed(workspace, DataCopy("train", 0, drop=(2,))).files
    assert (workspace / "data/train.fixed.jsonl").read_text() == "mine\n"
    assert first.name == "train.fixed-2.jsonl"
    undo(workspace / "recipe.yaml")
    assert fixed(workspace, DataCopy("train", 0, drop=(2,))).files[0] == first, "the same copy again is the same file"


def test_undo_names_the_source_again(workspace: Path) -> None:
    fixed(workspace, DataCopy("train", 0, drop=(2,)))
    assert undo(workspace / "recipe.yaml") == RECIPE


@pytest.mark.parametrize(
    ("copy", "told"),
    [
        (DataCopy("train", 0, steps=("as-text",)), "train.jsonl:3: not JSON"),
        (DataCopy("train", 0, drop=(0, 1, 2, 3, 4)), "all 5 rows"),
        (DataCopy("train", 0, steps=("polish",)), "no step 'polish'"),
    ],
)
def test_what_cannot_be_copied_is_said_and_leaves_nothing_behind(workspace: Path, copy: DataCopy, told: str) -> None:
    with pytest.raises(UserError, match=told):
        fixed(workspace, copy)
    assert [path.name for path in (workspace / "data").iterdir()] == ["train.jsonl"]
    assert (workspace / "recipe.yaml").read_text() == RECIPE


def test_a_data_set_of_the_hub_has_no_file_to_copy(workspace: Path) -> None:
    (workspace / "recipe.yaml").write_text(RECIPE.replace("data/train.jsonl", "org/data"))
    with pytest.raises(UserError, match="no data file on this box"):
        fixed(workspace, DataCopy("train", 0, drop=(1,)))
