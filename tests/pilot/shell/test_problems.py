"""Problems of the active file: panel, status bar, F8."""

import pytest

from tests.pilot.shell.conftest import workbench
from tests.pilot.shell.plain_recipe import PlainRecipe
from tuitune.workbench.views import catalog


@pytest.fixture(autouse=True)
def _plain_recipes(monkeypatch):
    monkeypatch.setitem(catalog.KINDS, "recipe", f"{PlainRecipe.__module__}:PlainRecipe")


# (keys, line the cursor is on): problems are on lines 2, 3 and 5
WALK = [("f8", 2), ("f8 f8", 3), ("f8 f8 f8", 5), ("f8 f8 f8 f8", 2), ("shift+f8", 5), ("shift+f8 shift+f8", 3), ("f8 shift+f8", 5)]


@pytest.mark.parametrize(("keys", "line"), WALK)
async def test_f8_walks(folder, keys, line):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.type("a error warning b error")
        await screen.press(keys)
        await screen.until(lambda: screen.app.editor.active.cursor == (line, 3))
        assert screen.focus == "recipe"


async def test_the_status_bar_counts_them_by_sign(folder):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until("✗ 0  ⚠ 0")
        await screen.type("error warning error")
        await screen.until("✗ 2  ⚠ 1")


async def test_enter_in_the_panel_goes_to_the_place(folder):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.type("a error warning")
        await screen.press("ctrl+t")
        await screen.until("PROBLEMS 2")
        await screen.until("demo.yaml:2:3")
        await screen.press("down enter")
        await screen.until(lambda: screen.app.editor.active.cursor == (3, 3) and screen.focus == "recipe")


async def test_without_problems_it_says_so(folder):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.press("f8")
        await screen.until("No problems here.")
        await screen.press("ctrl+t")
        await screen.until("No problems.")


async def test_what_was_told_stays_in_output(folder):
    async with workbench(folder) as screen:
        screen.app.notify("something [red]happened[/red] \x1b[31m")
        await screen.press("ctrl+t right")
        await screen.until("something [red]happened[/red] ␛[31m")


async def test_escape_in_the_panel_goes_back_to_the_editor(folder):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.press("ctrl+t escape")
        await screen.until(lambda: screen.focus == "recipe")


async def test_a_key_of_the_recipe_by_its_name(folder):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.press("alt+o")
        await screen.type("path")
        await screen.press("enter")
        await screen.until(lambda: screen.app.editor.active.cursor == (4, 3))


async def test_a_fault_in_a_worker_is_told_and_the_workbench_goes_on(folder):
    def broken() -> None:
        raise RuntimeError("boom \x1b[31m")

    async with workbench(folder) as screen:
        screen.app.run_worker(broken, thread=True)
        await screen.until("boom ␛[31m (details in OUTPUT)")
        await screen.press("ctrl+t right")
        await screen.until("PROBLEMS")
        assert any("RuntimeError" in text for _, text in screen.app.panel.lines)
