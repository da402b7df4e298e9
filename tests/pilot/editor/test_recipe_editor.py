"""The recipe editor in the real workbench, driven by keys: state, keys, state."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest
from textual import events
from textual.pilot import Pilot

from tuitune.recipe.schema import load_schema
from tuitune.workbench.app import Workbench
from tuitune.workbench.views import recipe_editor
from tuitune.workbench.views.recipe_editor import RecipeEditor
from tuitune.workbench.views.view import draft_file

RECIPE = """\
# stays
name: demo
task: sft
model:
  name_or_path: HuggingFaceTB/SmolLM2-135M-Instruct
peft:
  r: 8
dataset:
  train:
    - {path: data/train.jsonl, columns: {user: question, assistant: answer}}
training:
  max_steps: 3
"""


@pytest.fixture(scope="session", autouse=True)
def schema() -> None:
    """The options of the installed libraries are in the cache: some ten seconds the first time on a machine."""
    load_schema()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_editor, "VALIDATE_AFTER_S", 0.01)
    monkeypatch.setattr(recipe_editor, "LOOK_AT_DISK_S", 0.1)


class Driver:
    """The editor of one recipe, and keys for it."""

    def __init__(self, app: Workbench, pilot: Pilot[int]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def view(self) -> RecipeEditor:
        view = self.app.editor.active
        assert isinstance(view, RecipeEditor)
        return view

    async def press(self, *keys: str) -> "Driver":
        await self.pilot.press(*keys)
        return self

    async def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        deadline = monotonic() + seconds
        while not condition():
            assert monotonic() < deadline, "that never came true"
            await self.pilot.pause(0.02)

    def codes(self) -> list[str]:
        return [problem.code for problem in self.view.problems]


@asynccontextmanager
async def editing(path: Path, text: str | bytes = RECIPE, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Driver]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    app = Workbench(path.parent, path)
    async with app.run_test(size=size) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: isinstance(app.editor.active, RecipeEditor) and driver.view.schema is not None)
        driver.view.focus_content()
        driver.view.flush()
        yield driver


async def test_problems_appear_while_typing_and_go_when_it_is_right(tmp_path: Path) -> None:
    async with editing(tmp_path / "r.yaml") as driver:
        assert driver.codes() == []
        driver.view.go_to(12, 3)
        await driver.press("x")
        await driver.until(lambda: len(driver.view.problems) == 1)
        assert driver.view.problems[0].line == 12
        assert driver.view.dirty
        await driver.press("backspace")
        await driver.until(lambda: not driver.view.problems)
        assert not driver.view.dirty


async def test_a_fix_is_one_undo_step(tmp_path: Path) -> None:
    broken = RECIPE.replace("max_steps: 3", "max_seq_length: 64")
    async with editing(tmp_path / "r.yaml", broken) as driver:
        await driver.press("f8", "f4")
        assert "  max_length: 64\n" in driver.view.text
        assert driver.view.problems == []
        await driver.press("ctrl+z")
        assert driver.view.text == broken


async def test_fix_all_leaves_only_what_has_no_fix(tmp_path: Path) -> None:
    broken = RECIPE.replace(
        "  max_steps: 3", "  max_seq_length: 64\n  learnin_rate: 1.0e-4\n  num_train_epochs: three\n  evaluation_strategy: steps"
    )
    async with editing(tmp_path / "r.yaml", broken) as driver:
        driver.view.action_fix_all()
        assert [problem.line for problem in driver.view.problems if problem.severity == "error"] == [14]
        assert "learning_rate: 1.0e-4" in driver.view.text


async def test_completion_opens_by_itself_and_tab_takes_the_first(tmp_path: Path) -> None:
    async with editing(tmp_path / "r.yaml") as driver:
        await driver.press("ctrl+end", "space", "space", *"warmup_s")
        await driver.until(lambda: driver.view._popup.open)
        await driver.press("tab")
        assert driver.view.text.endswith("\n  warmup_steps: ")
        await driver.press(*"5")
        assert driver.view.text.endswith("  warmup_steps: 5")


async def test_values_are_offered_after_the_colon_and_escape_closes(tmp_path: Path) -> None:
    async with editing(tmp_path / "r.yaml") as driver:
        await driver.press("ctrl+end", *"  save_strategy: ")
        await driver.until(lambda: driver.view._popup.open)
        assert "epoch" in [item.text for item in driver.view._popup.items]
        await driver.press("escape")
        assert not driver.view._popup.open
        await driver.press("ctrl+@")
        assert driver.view._popup.open
        await driver.press("down", "enter")
        assert driver.view.text.splitlines()[-1].startswith("  save_strategy: ")
        assert driver.view.text.splitlines()[-1] != "  save_strategy: "


async def test_enter_is_a_new_line_even_when_a_list_has_opened_by_itself(tmp_path: Path) -> None:
    async with editing(tmp_path / "r.yaml") as driver:
        await driver.press("ctrl+end", *"  seed")
        await driver.press("enter")
        assert driver.view.text.endswith("  seed\n  ")


async def test_f2_explains_the_key_and_escape_hides_it(tmp_path: Path) -> None:
    async with editing(tmp_path / "r.yaml") as driver:
        driver.view.go_to(12, 5)
        await driver.press("f2")
        assert "max_steps" in str(driver.view._docs.render())
        await driver.press("escape")
        assert not driver.view._docs.display


async def test_find_goes_round_and_back(tmp_path: Path) -> None:
    async with editing(tmp_path / "r.yaml") as driver:
        await driver.press("ctrl+f", *"train")
        await driver.press("enter")
        first = driver.view.place
        await driver.press("escape", "f3")
        assert driver.view.place != first
        await driver.press("shift+f3")
        assert driver.view.place == first


async def test_the_bread_crumb_and_the_place_follow_the_cursor(tmp_path: Path) -> None:
    async with editing(tmp_path / "r.yaml") as driver:
        driver.view.go_to(7, 3)
        await driver.pilot.pause()
        assert driver.view.breadcrumb == "peft › r"
        assert driver.view.status == "Ln 7, Col 3"
        assert [symbol.name for symbol in driver.view.symbols()][:3] == ["name", "task", "model"]


async def test_what_somebody_else_writes_is_read_unless_there_are_changes(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    async with editing(path) as driver:
        path.write_text(RECIPE.replace("r: 8", "r: 16"))
        await driver.until(lambda: "r: 16" in driver.view.text)
        assert not driver.view.dirty
        await driver.press("ctrl+end", "#")
        path.write_text(RECIPE.replace("r: 8", "r: 32"))
        await driver.until(lambda: driver.view._told_change)
        await driver.press("ctrl+s")
        await driver.until(lambda: type(driver.app.screen).__name__ == "Confirm")
        await driver.press("o")
        await driver.until(lambda: not driver.view.dirty)
        assert path.read_text() == RECIPE.replace("r: 8", "r: 16") + "#"


async def test_two_panes_on_one_file_are_in_step_through_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    async with editing(path) as driver:
        await driver.press("ctrl+end", *"# more", "ctrl+s", "ctrl+backslash")
        views = list(driver.app.query(RecipeEditor))
        assert {view.text for view in views} == {path.read_text()}


async def test_a_draft_from_a_lost_line_comes_back_as_an_unsaved_change(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    draft_file(path).write_text(RECIPE + "# not saved\n")
    async with editing(path) as driver:
        assert driver.view.text.endswith("# not saved\n")
        assert driver.view.dirty
        assert not draft_file(path).exists()
        await driver.press("ctrl+z")
        assert driver.view.text == RECIPE


async def test_a_file_that_is_not_utf8_is_shown_and_not_edited(tmp_path: Path) -> None:
    async with editing(tmp_path / "r.yaml", b"name: caf\xe9\ntask: sft\n") as driver:
        await driver.press("x", "ctrl+s")
        assert driver.view.text.startswith("name: caf\ufffd")
        assert (tmp_path / "r.yaml").read_bytes() == b"name: caf\xe9\ntask: sft\n"


async def test_terminal_escapes_in_a_recipe_are_shown_not_obeyed(tmp_path: Path) -> None:
    async with editing(tmp_path / "r.yaml", "name: demo # \x1b[31mred\x1b[0m\n" + RECIPE.partition("\n")[2].partition("\n")[2]) as driver:
        shown = driver.view._editor.render_line(0).text
        assert "␛[31mred" in shown
        assert "\x1b" not in shown


async def test_the_last_runs_recipe_can_be_compared(tmp_path: Path) -> None:
    from tuitune.runs.directory import create_run
    from tuitune.runs.manifest import Manifest, write_manifest

    path = tmp_path / "r.yaml"
    run = create_run(tmp_path / "runs", "demo", RECIPE.replace("r: 8", "r: 4"))
    write_manifest(run, Manifest(name="demo", recipe_path=str(path), state="done"))
    async with editing(path) as driver:
        driver.view.action_diff()
        await driver.until(lambda: driver.view._docs.display)
        shown = str(driver.view._docs.render())
        assert "-  r: 4" in shown
        assert "+  r: 8" in shown


async def test_keys_that_arrive_in_one_burst_keep_their_order(tmp_path: Path) -> None:
    """A slow line delivers moves and letters together; the letters belong where the move went."""
    async with editing(tmp_path / "r.yaml") as driver:
        driver.view.go_to(2, 1)
        for key, character in (("ctrl+end", None), ("z", "z"), ("up", None), ("home", None), ("y", "y")):
            driver.view._editor.post_message(events.Key(key, character))
        await driver.until(lambda: driver.view.text.endswith("y  max_steps: 3\nz"))
