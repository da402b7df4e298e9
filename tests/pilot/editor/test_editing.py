"""Problems, fixes, documentation, find and places in the recipe editor, by keys."""

from pathlib import Path

from textual import events

from tests.pilot.editor.driver import RECIPE, editing, until
from tuitune.workbench.app import Workbench
from tuitune.workbench.views import recipe_editor
from tuitune.workbench.views.recipe_editor import RecipeEditor

PLANTED = """\
# my recipe        (blanks and comments stay)
name: demo
task: sft
model:
  name_or_path: HuggingFaceTB/SmolLM2-135M-Instruct
  torch_dtype: bfloat16   # an old name
peft:
  r: 8
dataset:
  train:
    - {path: data/train.jsonl, columns: {user: question, assistant: answer}}
training:
  learnin_rate: 2e-4
\tlogging_steps: 1
  max_seq_length: 1024
  lr_scheduler_type: cosin
  num_train_epochs: "3"
"""
MENDED = (
    PLANTED.replace("torch_dtype", "dtype")
    .replace("learnin_rate", "learning_rate")
    .replace("\tlogging", "  logging")
    .replace("max_seq_length", "max_length")
    .replace("cosin\n", "cosine\n")
    .replace('"3"', "3")
)


async def test_a_recipe_full_of_errors_is_mended_by_keys_alone_and_only_those_lines_differ_on_disk(recipe: Path) -> None:
    """Old name, misspelt key, tab, removed key, wrong choice, wrong type: F8 and F4 until nothing is left; a key by completion; save."""
    async with editing(recipe, PLANTED) as driver:
        for _ in range(8):
            if not driver.view.problems:
                break
            await driver.press("f8", "f4")
            await driver.pilot.pause()
        assert driver.view.problems == []
        assert driver.view.text == MENDED
        await driver.press("ctrl+end")
        await driver.type("  warmup_s")
        await driver.until(lambda: driver.view.popup.open)
        await driver.press("tab")
        await driver.type("5\n")
        await driver.press("backspace", "backspace", "ctrl+s")
        await driver.until(lambda: not driver.view.dirty)
        assert recipe.read_text() == MENDED + "  warmup_steps: 5\n"
        driver.view.flush()
        assert driver.view.problems == []


async def test_problems_appear_while_typing_and_go_when_it_is_right(recipe: Path) -> None:
    async with editing(recipe) as driver:
        assert driver.codes == []
        await driver.at(12, 3)
        await driver.press("x")
        await driver.until(lambda: len(driver.view.problems) == 1)
        assert driver.view.problems[0].line == 12
        assert driver.view.dirty
        assert "F4: " in driver.view.strip.fix
        await driver.press("backspace")
        await driver.until(lambda: not driver.view.problems)
        assert not driver.view.dirty
        assert driver.view.strip.said == ""


async def test_broken_yaml_is_told_before_the_schema_is_there(recipe: Path, monkeypatch) -> None:
    """The first time on a machine the schema takes seconds: the strip says so, and what YAML itself knows is live."""
    import threading

    from tuitune.recipe import schema as schema_module

    there = threading.Event()
    load = schema_module.load_schema

    def slow(**_: object) -> object:
        there.wait(20)
        return load()

    monkeypatch.setattr(schema_module, "load_schema", slow)
    recipe.write_text(RECIPE + "learnin: [1\n")
    app = Workbench(recipe.parent, recipe)
    async with app.run_test(size=(120, 40)) as pilot:
        try:
            await until(pilot, lambda: app.editor.active and app.editor.active.problems)
            view = app.editor.active
            assert isinstance(view, RecipeEditor)
            assert view.schema is None
            assert view.strip.said == recipe_editor.READING
            assert {problem.code for problem in view.problems} == {"RCP001"}
        finally:
            there.set()
        await until(pilot, lambda: view.schema is not None and view.strip.said == "")


async def test_a_fix_is_one_undo_step(recipe: Path) -> None:
    broken = RECIPE.replace("max_steps: 3", "max_seq_length: 64")
    async with editing(recipe, broken) as driver:
        await driver.press("f8", "f4")
        assert "  max_length: 64\n" in driver.view.text
        assert driver.view.problems == []
        await driver.press("ctrl+z")
        assert driver.view.text == broken
        await driver.press("ctrl+y")
        assert "  max_length: 64\n" in driver.view.text


async def test_every_fix_at_once_is_one_undo_step_and_leaves_what_has_no_fix(recipe: Path) -> None:
    broken = RECIPE.replace(
        "  max_steps: 3", "  max_seq_length: 64\n  learnin_rate: 1.0e-4\n  num_train_epochs: three\n  evaluation_strategy: steps"
    )
    async with editing(recipe, broken) as driver:
        await driver.press("f1")
        await driver.type("fix all")
        await driver.press("enter")
        await driver.until(lambda: "learning_rate: 1.0e-4" in driver.view.text)
        assert [problem.line for problem in driver.view.problems if problem.severity == "error"] == [14]
        await driver.press("ctrl+z")
        assert driver.view.text == broken


async def test_a_fix_where_there_is_none_says_so(recipe: Path) -> None:
    async with editing(recipe, RECIPE.replace("max_steps: 3", "max_steps: three")) as driver:
        await driver.press("f4")
        assert "no problem here" in driver.told
        await driver.press("f8", "f4")
        assert "no automatic fix" in driver.told


async def test_f2_explains_the_key_and_escape_hides_it(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.at(12, 5)
        await driver.press("f2")
        assert driver.view.peek.text.startswith("max_steps: int")
        assert "max_steps: int" in driver.screen
        await driver.press("escape")
        assert not driver.view.peek.open
        await driver.at(1, 1)
        await driver.press("f2")
        assert "Nothing is known" in driver.view.peek.text
        await driver.press("f2")
        assert not driver.view.peek.open


async def test_a_long_explanation_is_paged_and_otherwise_the_text_is(recipe: Path) -> None:
    async with editing(recipe, RECIPE + "# more\n" * 60, size=(80, 24)) as driver:
        await driver.press("pagedown")
        assert driver.view.place[0] > 5
        await driver.at(12, 5)
        await driver.press("f2")
        driver.view.peek.show("word " * 2000)
        await driver.pilot.pause()
        await driver.press("pagedown")
        assert driver.view.peek.scroll_offset.y > 0
        assert driver.view.place == (12, 5)


async def test_find_counts_goes_round_and_minds_capitals_when_told_to(recipe: Path) -> None:
    text = RECIPE + "# Train train TRAIN\n"
    async with editing(recipe, text) as driver:
        await driver.press("ctrl+f", *"train")
        await driver.until(lambda: "1/6" in driver.screen)
        await driver.press("enter")
        assert "2/6" in driver.screen
        first = driver.view.place
        await driver.press("escape", "f3")
        assert driver.view.place != first
        await driver.press("shift+f3")
        assert driver.view.place == first
        assert driver.view.code.selected_text == "train"
        await driver.press("ctrl+f", "alt+c")
        assert "/4" in driver.screen
        await driver.press("up", "up")
        assert driver.view.code.selected_text == "train"
        await driver.type("nothing")
        await driver.until(lambda: "not found" in driver.screen)


async def test_what_is_searched_can_be_read(recipe: Path) -> None:
    async with editing(recipe, size=(80, 24)) as driver:
        await driver.press("ctrl+f")
        await driver.type("steps")
        await driver.pilot.pause()
        assert any("find" in line and "steps" in line for line in driver.screen.splitlines())


async def test_what_is_typed_in_one_burst_after_find_goes_into_the_bar(recipe: Path) -> None:
    """A slow line delivers Ctrl+F and the word together."""
    async with editing(recipe) as driver:
        for key, character in (("ctrl+f", None), ("r", "r"), ("colon", ":")):
            driver.app.post_message(events.Key(key, character))
        await driver.until(lambda: driver.view.find_bar.wanted == "r:")
        assert driver.view.text == RECIPE


async def test_the_bread_crumb_and_the_place_follow_the_cursor(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.at(7, 3)
        await driver.until(lambda: driver.view.breadcrumb == "peft › r")
        assert driver.view.status == "Ln 7, Col 3"
        assert [symbol.name for symbol in driver.view.symbols()][:3] == ["name", "task", "model"]
        await driver.at(10, 30)
        await driver.until(lambda: driver.view.breadcrumb.startswith("dataset › train › [0]"))


async def test_go_to_line_ends_at_the_last_one(recipe: Path) -> None:
    async with editing(recipe) as driver:
        driver.view.go_to(10_000, 10_000)
        await driver.until(lambda: driver.view.place == (13, 1))


async def test_keys_that_arrive_in_one_burst_keep_their_order(recipe: Path) -> None:
    """A slow line delivers moves and letters together; the letters belong where the move went."""
    async with editing(recipe) as driver:
        await driver.at(2, 1)
        for key, character in (("ctrl+end", None), ("z", "z"), ("up", None), ("home", None), ("y", "y")):
            driver.app.post_message(events.Key(key, character))
        await driver.until(lambda: driver.view.text.endswith("y  max_steps: 3\nz"))


async def test_undo_in_one_burst_with_letters_takes_them_back(recipe: Path) -> None:
    """The app runs Ctrl+Z itself, at once; the letters before it wait in the editor's queue."""
    async with editing(recipe) as driver:
        for key, character in (("ctrl+end", None), ("z", "z"), ("ctrl+z", None), ("ctrl+y", None), ("q", "q")):
            driver.app.post_message(events.Key(key, character))
        await driver.until(lambda: driver.view.text.endswith("q"))
        assert driver.view.text == RECIPE + "zq"


async def test_a_recipe_of_ten_thousand_lines_can_be_edited(recipe: Path) -> None:
    """Without colours, bread crumbs and lists that open by themselves, which would take longer than a key may."""
    async with editing(recipe, RECIPE + "# a comment\n" * 10_000) as driver:
        assert driver.view.code.language is None
        await driver.press("ctrl+end")
        await driver.type("training")
        assert driver.view.text.endswith("\ntraining")
        assert driver.offered == []
