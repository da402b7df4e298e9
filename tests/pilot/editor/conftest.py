"""For every test of the editor: the schema is there, and nobody waits for a person."""

from pathlib import Path

import pytest

from tuitune.recipe.schema import load_schema
from tuitune.workbench.views import recipe_editor


@pytest.fixture(scope="session", autouse=True)
def schema() -> None:
    """The options of the installed libraries are in the cache: some ten seconds the first time on a machine."""
    load_schema()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_editor, "VALIDATE_AFTER_S", 0.01)
    monkeypatch.setattr(recipe_editor, "CRUMBS_AFTER_S", 0.01)
    monkeypatch.setattr(recipe_editor, "LOOK_AT_DISK_S", 0.1)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Where the recipe of a test is."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "r.yaml"
