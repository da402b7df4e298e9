"""Unsaved changes: the mark, the question, the draft."""

import pytest

from tests.pilot.shell.conftest import RECIPE, workbench
from tests.pilot.shell.plain_recipe import PlainRecipe
from tuitune.workbench.drafts import draft_file
from tuitune.workbench.views import catalog


@pytest.fixture(autouse=True)
def _plain_recipes(monkeypatch):
    monkeypatch.setitem(catalog.KINDS, "recipe", f"{PlainRecipe.__module__}:PlainRecipe")


def on_disk(folder) -> str:
    return (folder / "demo.yaml").read_text().removeprefix(RECIPE)


# (typed, keys, text added on disk, tabs after)
CLOSING = [
    ("", "ctrl+w", "", ""),
    ("x", "ctrl+w escape", "", "[demo.yaml]"),
    ("x", "ctrl+w enter", "# x\n", ""),
    ("x", "ctrl+w s", "# x\n", ""),
    ("x", "ctrl+w d", "", ""),
    ("x", "ctrl+w right enter", "", ""),
    ("x", "ctrl+s", "# x\n", "[demo.yaml]"),
    ("unwritable", "ctrl+w s", "", "[demo.yaml]"),
]


@pytest.mark.parametrize(("typed", "keys", "added", "tabs"), CLOSING)
async def test_closing_a_tab(folder, typed, keys, added, tabs):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.type(typed)
        if typed:
            await screen.until(f"demo.yaml {'●'}")
        await screen.press(keys)
        await screen.until(lambda: (on_disk(folder), screen.tabs, len(screen.app.screen_stack)) == (added, tabs, 1))


@pytest.mark.parametrize(("keys", "leaves", "added"), [("ctrl+q escape", False, ""), ("ctrl+q s", True, "# x\n"), ("ctrl+q d", True, "")])
async def test_quitting(folder, keys, leaves, added):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.type("x")
        await screen.press(keys)
        if leaves:
            await screen.until(lambda: screen.app._exit)
        else:
            await screen.until(lambda: len(screen.app.screen_stack) == 1)
            assert not screen.app._exit
        assert on_disk(folder) == added


async def test_quitting_without_changes_asks_nothing(folder):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.press("ctrl+q")
        await screen.until(lambda: screen.app._exit)


async def test_the_explorer_marks_files_with_changes(folder):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.type("x")
        await screen.until("● demo.yaml")
        await screen.press("ctrl+s")
        await screen.until(lambda: "● demo.yaml" not in screen.text)


async def test_drafts_are_kept_when_the_terminal_goes(folder):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.type("x")
        kept = screen.app.save_drafts()
        assert kept == [draft_file(folder / "demo.yaml")]
        assert kept[0].read_text() == RECIPE + "# x\n"
        assert kept[0].stat().st_mode & 0o777 == 0o600
        assert on_disk(folder) == ""
