"""What is on disk and what is on screen: saving, foreign changes, drafts, files that may not be edited, the last run."""

import os
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.containers import Horizontal

from tests.pilot.editor.driver import RECIPE, editing, until
from tuitune.runs.directory import create_run
from tuitune.runs.manifest import Manifest, write_manifest
from tuitune.workbench import drafts
from tuitune.workbench.app import Workbench
from tuitune.workbench.drafts import draft_file
from tuitune.workbench.views.recipe_editor import RecipeEditor


async def test_letters_and_save_in_one_burst_are_all_saved(recipe: Path) -> None:
    from textual import events

    async with editing(recipe) as driver:
        for key, character in (("ctrl+end", None), ("number_sign", "#"), ("z", "z"), ("ctrl+s", None)):
            driver.app.post_message(events.Key(key, character))
        await driver.until(lambda: recipe.read_text() != RECIPE)
        assert recipe.read_text() == RECIPE + "#z"


async def test_a_foreign_change_is_read_and_told_where_nothing_is_lost(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.at(7, 3)
        recipe.write_text(RECIPE.replace("r: 8", "r: 16"))
        await driver.until(lambda: "r: 16" in driver.view.text)
        assert not driver.view.dirty
        assert "r.yaml was read again from disk" in driver.told
        assert driver.view.place[0] == 7


async def test_a_foreign_change_against_changes_of_ones_own_is_asked_about(recipe: Path) -> None:
    """Compare shows both, overwriting keeps mine."""
    async with editing(recipe) as driver:
        await driver.press("ctrl+end", "#")
        recipe.write_text(RECIPE.replace("r: 8", "r: 32"))
        await driver.until(lambda: "changed on disk" in driver.told)
        assert driver.view.text == RECIPE + "#"
        await driver.press("ctrl+s")
        await driver.question("Confirm")
        await driver.press("c")
        await driver.question("Comparison")
        assert "-   r: 32" in driver.screen
        assert "+   r: 8" in driver.screen
        await driver.press("escape")
        await driver.question("Confirm")
        await driver.press("escape")
        await driver.until(lambda: len(driver.app.screen_stack) == 1)
        assert "r: 32" in recipe.read_text()
        await driver.press("ctrl+s")
        await driver.question("Confirm")
        await driver.press("o")
        await driver.until(lambda: not driver.view.dirty)
        assert recipe.read_text() == RECIPE + "#"


async def test_theirs_can_be_taken_and_undone(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.press("ctrl+end", "#")
        recipe.write_text(RECIPE.replace("r: 8", "r: 32"))
        await driver.press("ctrl+s")
        await driver.question("Confirm")
        await driver.press("r")
        await driver.until(lambda: "r: 32" in driver.view.text)
        assert not driver.view.dirty
        await driver.press("ctrl+z")
        assert driver.view.text == RECIPE + "#"
        assert driver.view.dirty


async def test_a_file_that_was_only_touched_is_the_same_file(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.press("ctrl+end", "#")
        os.utime(recipe, ns=(1, 1))
        await driver.press("ctrl+s")
        await driver.until(lambda: not driver.view.dirty)
        assert recipe.read_text() == RECIPE + "#"
        assert "changed on disk" not in driver.told


async def test_a_deleted_file_is_unsaved_text_that_can_be_written_again(recipe: Path) -> None:
    async with editing(recipe) as driver:
        recipe.unlink()
        await driver.until(lambda: driver.view.dirty)
        assert "deleted on disk" in driver.told
        await driver.press("ctrl+s")
        await driver.until(lambda: not driver.view.dirty)
        assert recipe.read_text() == RECIPE


async def test_a_full_disk_keeps_text_and_file_and_says_so(recipe: Path, monkeypatch) -> None:
    async with editing(recipe) as driver:

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        await driver.press("ctrl+end", "#", "ctrl+s")
        await driver.until(lambda: "No space left on device" in driver.told)
        assert driver.view.text == RECIPE + "#"
        assert driver.view.dirty
        assert recipe.read_text() == RECIPE


async def test_a_file_that_is_not_utf8_is_shown_and_not_edited(recipe: Path) -> None:
    async with editing(recipe, b"name: caf\xe9\ntask: sft\nmodel:\n") as driver:
        await driver.press("x", "f4", "ctrl+s")
        await driver.until(lambda: "Not saved" in driver.told)
        assert driver.view.text.startswith("name: caf\ufffd")
        await driver.at(1, 1)
        assert "byte 9 is not UTF-8" in driver.screen
        assert recipe.read_bytes() == b"name: caf\xe9\ntask: sft\nmodel:\n"


async def test_a_huge_file_is_not_opened_and_says_why(recipe: Path) -> None:
    recipe.write_text(RECIPE + "# x\n" * 300_000)
    app = Workbench(recipe.parent, recipe)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: any("recipes of up to 1 MiB" in text for _, text in app.panel.lines))
        assert app.editor.active is None


async def test_windows_line_ends_stay(recipe: Path) -> None:
    windows = RECIPE.replace("\n", "\r\n").encode()
    async with editing(recipe, windows) as driver:
        assert driver.view.text == RECIPE
        await driver.at(7, 7)
        await driver.press("6", "ctrl+s")
        await driver.until(lambda: not driver.view.dirty)
        assert recipe.read_bytes() == windows.replace(b"r: 8", b"r: 86")


async def test_terminal_escapes_in_a_recipe_are_shown_not_obeyed(recipe: Path) -> None:
    async with editing(recipe, "name: demo # \x1b[31mred\x1b[0m\n" + RECIPE.partition("\n")[2].partition("\n")[2]) as driver:
        assert "␛[31mred" in driver.screen
        assert "\x1b" not in driver.screen


async def test_a_draft_from_a_lost_line_comes_back_as_an_unsaved_change(recipe: Path) -> None:
    draft_file(recipe).write_text(RECIPE + "# not saved\n")
    os.utime(draft_file(recipe), ns=(1, 1))
    async with editing(recipe) as driver:
        await driver.until(lambda: driver.view.dirty)
        assert driver.view.text.endswith("# not saved\n")
        assert draft_file(recipe).exists(), "until it is saved: who is lost a second time has it still"
        assert "The file was changed since then" in driver.told
        await driver.press("ctrl+z")
        assert driver.view.text == RECIPE


async def test_saving_a_draft_that_is_older_than_the_file_asks_first(recipe: Path) -> None:
    """Somebody changed the file after the line was lost: the text on screen was made from another one."""
    draft_file(recipe).write_text(RECIPE + "# not saved\n")
    os.utime(draft_file(recipe), ns=(1, 1))
    async with editing(recipe) as driver:
        await driver.until(lambda: driver.view.dirty)
        await driver.press("ctrl+s")
        await driver.question("Confirm")
        await driver.press("enter")
        await driver.question("Comparison")
        await driver.press("escape")
        await driver.question("Confirm")
        await driver.press("o")
        await driver.until(lambda: not driver.view.dirty)
        assert recipe.read_text() == RECIPE + "# not saved\n"


async def test_quitting_and_discarding_gives_a_restored_draft_up(recipe: Path) -> None:
    draft_file(recipe).write_text(RECIPE + "# not saved\n")
    async with editing(recipe) as driver:
        await driver.until(lambda: driver.view.dirty)
        await driver.press("ctrl+q")
        await driver.until(lambda: len(driver.app.screen_stack) == 2)
        await driver.press("d")
        await driver.until(lambda: driver.app._exit)
        assert not draft_file(recipe).exists()


async def test_a_draft_whose_change_is_taken_back_is_given_up(recipe: Path) -> None:
    draft_file(recipe).write_text(RECIPE + "# not saved\n")
    async with editing(recipe) as driver:
        await driver.until(lambda: driver.view.dirty)
        await driver.press("ctrl+z")
        await driver.until(lambda: not draft_file(recipe).exists())


async def test_a_draft_of_a_tab_closed_without_saving_is_given_up(recipe: Path) -> None:
    draft_file(recipe).write_text(RECIPE + "# not saved\n")
    async with editing(recipe) as driver:
        await driver.until(lambda: driver.view.dirty)
        await driver.press("ctrl+w")
        await driver.question("Confirm")
        await driver.press("d")
        await driver.until(lambda: not draft_file(recipe).exists())


async def test_a_draft_of_a_file_that_cannot_be_edited_now_is_kept_and_named(recipe: Path) -> None:
    draft_file(recipe).write_text(RECIPE)
    async with editing(recipe, RECIPE.encode().replace(b"demo", b"\xff")) as driver:
        assert driver.view.file.read_only
        assert str(draft_file(recipe)) in driver.told
        assert draft_file(recipe).read_text() == RECIPE


async def test_without_a_cache_recipes_open_and_save(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(drafts, "cache_dir", nowhere)
    async with editing(recipe) as driver:
        await driver.press("ctrl+end", "#", "ctrl+s")
        await driver.until(lambda: recipe.read_text() == RECIPE + "#")
        await driver.until(lambda: not driver.view.dirty)
        assert "Not saved" not in driver.told
        assert "Error" not in driver.told


async def test_the_draft_is_the_text_as_it_is(recipe: Path) -> None:
    async with editing(recipe) as driver:
        assert driver.view.draft_text() is None
        await driver.press("ctrl+end", "#")
        assert driver.view.draft_text() == RECIPE + "#"
        driver.app.save_drafts()
        assert draft_file(recipe).read_text() == RECIPE + "#"
        await driver.press("ctrl+s")
        await driver.until(lambda: not draft_file(recipe).exists())


class TwoPanes(App[None]):
    """Two views of one file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.left, self.right = RecipeEditor(path), RecipeEditor(path)

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield self.left
            yield self.right


async def test_two_views_of_one_file_are_in_step_through_the_disk(recipe: Path) -> None:
    recipe.write_text(RECIPE)
    app = TwoPanes(recipe)
    async with app.run_test(size=(120, 40)) as pilot:
        app.left.focus_content()
        await pilot.pause()
        await pilot.press("ctrl+end", "#", "1")
        done = app.run_worker(app.left.save())
        await until(pilot, lambda: app.right.text == RECIPE + "#1")
        assert done.result is True
        assert not app.left.dirty
        assert not app.right.dirty


async def test_the_recipe_can_be_compared_with_the_one_of_its_last_run(recipe: Path) -> None:
    runs = recipe.parent / "runs"
    for rank, created in ((2, 10.0), (4, 20.0)):
        run = create_run(runs, "demo", RECIPE.replace("r: 8", f"r: {rank}"))
        write_manifest(run, Manifest(name="demo", recipe_path=str(recipe), state="done", created=created))
    async with editing(recipe) as driver:
        await driver.press("ctrl+end", "#", "f1")
        await driver.type("compare with")
        await driver.press("enter")
        await driver.question("Comparison")
        assert "-   r: 4" in driver.screen
        assert "+   r: 8" in driver.screen
        assert "+ #" in driver.screen
        assert "r: 2" not in driver.screen
        await driver.press("n", "escape")
        await driver.until(lambda: len(driver.app.screen_stack) == 1)


async def test_without_a_run_there_is_nothing_to_compare_with(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.view.run_action("diff")
        await driver.until(lambda: "has not been trained in this folder yet" in driver.told)
