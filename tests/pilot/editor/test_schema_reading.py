"""The options of the installed libraries are read in the background; nothing waits for them, leaving least of all."""

import threading
from pathlib import Path
from time import monotonic

import pytest

from tuitune.errors import UserError
from tuitune.recipe import schema as recipe_schema
from tuitune.workbench.app import Workbench
from tuitune.workbench.views.recipe_editor import RecipeEditor


async def test_leaving_ends_the_reading_of_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export takes seconds on a machine's first start: without a cancel, Ctrl+Q waits for it."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: demo\ntask: sft\n")
    begun, cancelled = threading.Event(), threading.Event()

    def slow(*_: object, cancel: threading.Event | None = None, **__: object) -> None:
        begun.set()
        if cancel is not None and cancel.wait(20):
            cancelled.set()
        raise UserError("cancelled")

    monkeypatch.setattr(recipe_schema, "load_schema", slow)
    app = Workbench(tmp_path, recipe)
    async with app.run_test() as pilot:
        deadline = monotonic() + 60
        while not (begun.is_set() and isinstance(app.editor.active, RecipeEditor) and app.seen):
            assert monotonic() < deadline, "the editor never opened"
            await pilot.pause(0.02)
        assert not cancelled.is_set()
    assert cancelled.wait(5)
