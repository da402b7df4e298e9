"""`datasets` names what it makes by a hash; without the hash the rows are the same, and a large tokenizer is not pickled."""

from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.support.inspected_rows import inspected, write_recipe
from tests.support.varied_rows import SHAPES, write_rows
from tuitune.analyst import fingerprints


@pytest.mark.parametrize("shape", ["multi-turn", "prompt-completion-text", "preference-turns"])
@pytest.mark.parametrize("packing", [{}, {"packing": True}])
def test_ids_and_labels_are_the_same_with_hashed_names(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, packing: dict[str, Any]
) -> None:
    write_rows(tmp_path)
    task = SHAPES[shape].task
    training = {"max_length": 64, **(packing if task == "sft" else {})}
    recipe = write_recipe(tmp_path / "r.yaml", tiny_model, tmp_path / f"{shape}.jsonl", task, SHAPES[shape].columns, training)
    quick = inspected(recipe)
    hashed = _count(monkeypatch)
    monkeypatch.setattr(fingerprints, "PLACES", ())
    assert inspected(recipe) == quick
    assert hashed, "this time the names were hashes"


def test_nothing_is_hashed_and_afterwards_it_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = _count(monkeypatch)
    before = [place.update_fingerprint for place in fingerprints.PLACES]
    rows = datasets.Dataset.from_list([{"a": 1}, {"a": 2}])
    with fingerprints.random_fingerprints():
        made = rows.map(lambda row: {"b": row["a"] + 1}).filter(lambda row: row["b"] > 2).select_columns(["b"])
        assert made["b"][:] == [3]
    assert hashed == []
    assert [place.update_fingerprint for place in fingerprints.PLACES] == before
    rows.map(lambda row: {"b": row["a"]})
    assert hashed


def _count(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows with every name that `datasets` hashes."""
    counted: list[str] = []
    own = datasets.fingerprint.update_fingerprint

    def count(*args: Any) -> Any:
        counted.append(own(*args))
        return counted[-1]

    for place in (datasets.arrow_dataset, datasets.fingerprint):
        monkeypatch.setattr(place, "update_fingerprint", count)
    return counted
