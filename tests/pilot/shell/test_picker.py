"""Quick open: keys → what happens."""

from tests.pilot.shell.conftest import workbench
from tuitune.workbench.commands.registry import all_commands


async def test_a_file_by_its_name(folder):
    async with workbench(folder) as screen:
        await screen.press("ctrl+p")
        await screen.type("notes")
        await screen.press("enter")
        await screen.until(lambda: screen.tabs == "[notes.md]")


async def test_a_command_by_its_name(folder):
    async with workbench(folder) as screen:
        await screen.press("f1")
        await screen.type("panel tal")
        await screen.press("enter")
        await screen.until(lambda: screen.app.settings.panel_height == 13)


async def test_every_command_that_holds_is_in_the_palette(folder):
    async with workbench(folder) as screen:
        await screen.press("f1")
        offered = {entry.target for entry in screen.app.screen.entries}
        assert offered == {command.id for command in all_commands() if command.holds("") and command.id != "quick.commands"}


async def test_question_mark_shows_the_prefixes(folder):
    async with workbench(folder) as screen:
        await screen.press("ctrl+p question_mark")
        await screen.until("keys of the recipe")
        await screen.press("down enter")
        assert screen.app.screen._input.value == ">"


async def test_a_line_by_its_number(folder):
    async with workbench(folder, open_path=folder / "data/train.jsonl") as screen:
        await screen.until("1+1?")
        await screen.press("ctrl+g")
        await screen.type("42")
        await screen.press("enter")
        await screen.until("41+41?")
        assert screen.focus == "data"


async def test_escape_leaves_everything_as_it_was(folder):
    async with workbench(folder) as screen:
        await screen.press("alt+3")  # the GPU panel's figures change by themselves
        before = screen.text
        await screen.press("ctrl+p x y z escape")
        await screen.until(lambda: len(screen.app.screen_stack) == 1)
        assert screen.text == before


async def test_nothing_found_is_said_and_enter_does_nothing(folder):
    async with workbench(folder) as screen:
        await screen.press("ctrl+p q q q q")
        await screen.until("Nothing by that name")
        await screen.press("enter")
        assert len(screen.app.screen_stack) == 2


async def test_recent_commands_come_first(folder):
    async with workbench(folder) as screen:
        await screen.press("ctrl+t ctrl+t f1")
        assert screen.app.screen.entries[0].target == "view.panel"


async def test_keys_of_the_workbench_do_nothing_behind_the_box(folder):
    async with workbench(folder) as screen:
        await screen.press("ctrl+p ctrl+t ctrl+b f5")
        assert screen.app.explorer.display
        assert not screen.app.panel.display


async def test_themes_are_shown_at_once_and_escape_brings_the_old_one_back(folder):
    async with workbench(folder) as screen:
        before = screen.app.theme
        await screen.app.action_command("app.theme")
        await screen.press("down")
        assert screen.app.theme != before
        await screen.press("escape")
        assert screen.app.theme == before


async def test_a_chosen_theme_is_kept(folder):
    async with workbench(folder) as screen:
        await screen.app.action_command("app.theme")
        await screen.type("light")
        await screen.press("enter")
        await screen.until(lambda: screen.app.theme == "tuitune-light")
    async with workbench(folder) as screen:
        assert screen.app.theme == "tuitune-light"
