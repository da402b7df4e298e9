"""What a fix would do, said before it is done."""

from pathlib import Path

import pytest

from tuitune.errors import UserError
from tuitune.preflight.finding import Change, DataCopy, Fix, NewFile
from tuitune.preflight.preview import preview
from tuitune.preflight.repair import apply_fixes, before_last_fix, undo
from tuitune.recipe.problems import Edit

TEXT = "task: sft   # stays\ntraining:\n  max_length: 64\ndataset:\n  train:\n    - path: data/a.jsonl\n"


@pytest.mark.parametrize(
    ("fix", "line"),
    [
        (Fix("t", changes=(Change(("training", "max_length"), 128),)), "  max_length: 128"),
        (Fix("t", changes=(Change(("training", "packing"), True),)), "  packing: true"),
        (Fix("t", edits=(Edit(6, 9, "dpo"),)), "task: dpo   # stays"),
    ],
)
def test_the_text_is_the_one_that_applying_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fix: Fix, line: str):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(TEXT)
    shown = preview(TEXT, fix)
    assert line in shown.text.splitlines()
    assert recipe.read_text() == TEXT, "nothing is written"
    assert apply_fixes(recipe, TEXT, [fix]).text == shown.text


def test_files_and_copies_are_named():
    fix = Fix("t", files=(NewFile("mended.jinja", "a\nb"),), copies=(DataCopy("train", 0, drop=(3, 5), steps=("null-content",)),))
    assert preview(TEXT, fix).files == (
        "writes mended.jinja, 2 lines",
        "writes a repaired copy of a.jsonl without 2 rows (null-content) beside it; the recipe names the copy",
    )


def test_what_cannot_be_changed_is_said_before():
    with pytest.raises(UserError, match=r"training\.max_length cannot be changed"):
        preview("base: &b {max_length: 64}\ntraining: *b\n", Fix("t", changes=(Change(("training", "max_length"), 1),)))


def test_undo_says_what_it_would_write_and_keeps_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = tmp_path / "r.yaml"
    text = TEXT.replace("\n", "\r\n")
    recipe.write_bytes(text.encode())
    with pytest.raises(UserError, match="no fix was applied"):
        before_last_fix(recipe)
    apply_fixes(recipe, text, [Fix("t", edits=(Edit(6, 9, "dpo"),))])
    assert before_last_fix(recipe) == text
    undo(recipe)
    assert recipe.read_bytes() == text.encode()
