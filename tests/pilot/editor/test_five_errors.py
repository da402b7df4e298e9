"""By keys only: a recipe with five planted errors becomes one without, a key is completed, and only those lines differ on disk.

tests/e2e/test_editor_by_keys.py does it in a real terminal; here are the errors that break the YAML itself, and Windows line ends.
"""

from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from textual.pilot import Pilot

from tuitune.recipe.document import parse
from tuitune.recipe.schema import Schema, load_schema
from tuitune.recipe.validate import validate
from tuitune.workbench.app import Workbench
from tuitune.workbench.views.recipe_editor import RecipeEditor

HEAD = """\
# my recipe        (blanks and comments stay)
name: demo
task: sft

model: {name_or_path: HuggingFaceTB/SmolLM2-135M-Instruct}   # small
peft:
  r: 8
dataset:
  train:
    - {path: data/train.jsonl, columns: {user: question, assistant: answer}}
training:
"""
PLANTED = ["  max_seq_length: 1024", "  learnin_rate: 2.0e-4   # half", "  lr_scheduler_type: cosin", '  num_train_epochs: "3"']
MENDED = ["  max_length: 1024", "  learning_rate: 2.0e-4   # half", "  lr_scheduler_type: cosine", "  num_train_epochs: 3"]


@pytest.fixture(scope="module")
def schema() -> Schema:
    """Some ten seconds the first time on a machine."""
    return load_schema()


async def until(pilot: Pilot[int], condition: Callable[[], object]) -> None:
    deadline = monotonic() + 60
    while not condition():
        assert monotonic() < deadline, "that never came true"
        await pilot.pause(0.02)


async def fix_next(pilot: Pilot[int], app: Workbench, view: RecipeEditor) -> bool:
    """F8, and F4 where a fix is offered: renames are once the YAML can be read, until then F8 goes on to what makes it unreadable."""
    await until(pilot, lambda: [entry.problem for entry in app.panel.entries] == view.problems)  # F8 goes by the panel's list
    places = {f"Ln {each.line}, Col {each.column}": each for each in view.problems}
    await pilot.press("f8")
    await until(pilot, lambda: view.status in places)
    if places[view.status].fix is None:
        return False
    text = view.text
    await pilot.press("f4")
    await until(pilot, lambda: view.text != text)
    view.flush()
    return True


@pytest.mark.parametrize(
    ("broken", "line_end"), [("\tseed: 7", "\r\n"), ("  seed:7", "\n")], ids=["a tab, Windows", "no blank after the colon, Unix"]
)
async def test_five_errors_go_by_f8_and_f4(tmp_path: Path, schema: Schema, broken: str, line_end: str) -> None:
    recipe = tmp_path / "planted.yaml"
    before = (HEAD + "\n".join([*PLANTED, broken]) + "\n").replace("\n", line_end).encode()
    recipe.write_bytes(before)
    app = Workbench(tmp_path, recipe)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: isinstance(app.editor.active, RecipeEditor) and app.editor.active.problems)
        view = app.editor.active
        assert isinstance(view, RecipeEditor)
        await until(pilot, lambda: view.schema is not None)
        view.flush()
        fixes = keys = 0
        while view.problems:
            keys += 1
            assert keys <= 12, f"F8 and F4 do not get past: {view.problems[0].message}"
            fixes += await fix_next(pilot, app, view)
        assert fixes == 5
        await pilot.press("ctrl+end", *"  warmup_s")
        await until(pilot, lambda: "warmup_steps" in "".join(line.text for line in app.screen._compositor.render_strips()))
        await pilot.press("tab", "5", "enter", "ctrl+s")
        await until(pilot, lambda: not view.dirty)
    after = recipe.read_bytes()
    expected = (HEAD + "\n".join([*MENDED, "  seed: 7", "  warmup_steps: 5"]) + "\n").replace("\n", line_end).encode()
    assert after.rstrip(b" ") == expected
    assert validate(parse(after.decode(), recipe), schema) == []
