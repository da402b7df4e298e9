"""The lengths that are kept of a data set: they hold for the files that they are of, and for no others."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tuitune.dataset.lengths import COUNTS, Lengths, stamp
from tuitune.dataset.looked_at import compare, known_lengths, remember
from tuitune.recipe.document import read_document
from tuitune.recipe.recipe import Recipe, from_document

LENGTHS = Lengths(3, 60, tuple(min(10 * count, 30) for count in COUNTS), tuple(min(5 * count, 15) for count in COUNTS), 12)
TEXT = """
task: sft
model: {name_or_path: ./model}
tokenizer: {chat_template: ./chat.jinja}
dataset:
  train: [{path: t.jsonl}]
  eval: [{path: e.jsonl}]
training: {max_length: 64}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    for name in ("t.jsonl", "e.jsonl", "chat.jinja", "model/config.json", "model/tokenizer.json"):
        (tmp_path / name).write_text("{}\n")
    return written(tmp_path, TEXT)


def written(folder: Path, text: str) -> Recipe:
    (folder / "r.yaml").write_text(text)
    return from_document(read_document(folder / "r.yaml"), folder / "r.yaml", folder)


def test_what_was_kept_is_read_again(recipe: Recipe) -> None:
    assert known_lengths(recipe) == (None, "the data has not been looked at")
    remember(recipe, "data", "rows", LENGTHS, stamp(recipe))
    assert known_lengths(recipe) == (LENGTHS, "")
    assert compare(recipe, "data", "rows") == ("same", "")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a row more": lambda folder: (folder / "t.jsonl").write_text("{}\n{}\n"),
    "the same size, written again": lambda folder: os.utime(folder / "t.jsonl", ns=(1, 1)),
    "other evaluation rows": lambda folder: (folder / "e.jsonl").write_text("[]"),
    "another template": lambda folder: (folder / "chat.jinja").write_text("{{ messages }}"),
    "another tokenizer": lambda folder: (folder / "model" / "tokenizer.json").write_text('{"model": 1}'),
    "a file more of the tokenizer": lambda folder: (folder / "model" / "chat_template.jinja").write_text("x"),
    "the data is gone": lambda folder: (folder / "t.jsonl").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_lengths_of_files_that_have_changed_are_not_believed(change: str, recipe: Recipe, tmp_path: Path) -> None:
    remember(recipe, "data", "rows", LENGTHS, stamp(recipe))
    CHANGES[change](tmp_path)
    assert known_lengths(recipe) == (None, "the data or the tokenizer has changed since it was looked at")


@pytest.mark.parametrize(
    ("old", "new", "known"),
    [
        ("max_length: 64", "max_length: 65", False),
        ("max_length: 64", "max_length: 64, packing: true", False),
        ("{path: e.jsonl}", "{path: e.jsonl, max_rows: 1}", False),
        ("max_length: 64", "max_length: 64, per_device_train_batch_size: 2, learning_rate: 1.0e-5", True),
    ],
)
def test_lengths_hold_for_a_recipe_that_makes_the_same_rows(old: str, new: str, known: bool, recipe: Recipe, tmp_path: Path) -> None:
    remember(recipe, "data", "rows", LENGTHS, stamp(recipe))
    assert (known_lengths(written(tmp_path, TEXT.replace(old, new)))[0] is not None) == known


@pytest.mark.parametrize(("revision", "bound"), [("", False), (", revision: main", False), (f", revision: {'a' * 40}", True)])
def test_a_data_set_of_the_hub_is_bound_to_its_commit_or_to_nothing(revision: str, bound: bool, recipe: Recipe, tmp_path: Path) -> None:
    hub = written(tmp_path, TEXT.replace("{path: t.jsonl}", f"{{path: org/rows{revision}}}"))
    assert (stamp(hub) is not None) == bound


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"lengths": {}}', '{"lengths": {"sequences": 1, "tokens": 1, "sums": [], "scored": []}}']
)
def test_a_damaged_file_is_no_knowledge(text: str, recipe: Recipe, tmp_path: Path) -> None:
    remember(recipe, "data", "rows", LENGTHS, stamp(recipe))
    (kept,) = (tmp_path / "cache" / "tuitune" / "looked-at").iterdir()
    kept.write_text(text)
    assert known_lengths(recipe)[0] is None
