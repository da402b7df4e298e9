"""The side bar: what it lists, and what keys do in it."""

from tests.pilot.shell.conftest import RECIPE, workbench


def side(screen) -> list[str]:
    """The explorer's lines."""
    width = screen.app.explorer.region.right - 1
    return [line[4:width].rstrip() for line in screen.lines]


async def test_sections_with_their_files(folder):
    """RECIPES, DATA, MODELS and RUNS, each with what is in the folder."""
    async with workbench(folder) as screen:
        await screen.until("train.jsonl")
        text = "\n".join(side(screen))
        for words in ("RECIPES 2", "demo.yaml", "other.yaml", "DATA 1", "train.jsonl", "MODELS 1", "tiny", "RUNS"):
            assert words in text


async def test_enter_opens_a_file(folder):
    async with workbench(folder) as screen:
        await screen.press("down down down down enter")
        await screen.until(lambda: screen.tabs == "[train.jsonl]")


async def test_enter_on_a_section_folds_it(folder):
    async with workbench(folder) as screen:
        await screen.press("enter")
        await screen.until(lambda: "demo.yaml" not in screen.text)
        await screen.press("enter")
        await screen.until("demo.yaml")


async def test_a_new_file_appears_by_itself_and_the_cursor_stays_on_its_file(folder):
    async with workbench(folder) as screen:
        await screen.press("down down")
        (folder / "another.yaml").write_text(RECIPE)
        await screen.until("RECIPES 3")
        row = screen.app.explorer.rows[screen.app.explorer.cursor]
        assert row.label == "other.yaml"


async def test_an_empty_folder_says_what_to_do(tmp_path):
    async with workbench(tmp_path) as screen:
        await screen.until("No recipe in this folder")
        assert "tuitune demo" in screen.text


async def test_ten_thousand_files_do_not_delay_a_key(tmp_path):
    """The folder is looked at in a thread; keys go on and the list has its bound."""
    for number in range(10_000):
        (tmp_path / f"{number:05}.jsonl").touch()
    async with workbench(tmp_path) as screen:
        await screen.until("DATA 2000")
        await screen.press("down down down down")
        await screen.until(lambda: screen.app.explorer.cursor == 5)
        await screen.press("ctrl+t")
        await screen.press("right")
        await screen.until("10,000 found, the first 2,000 are listed")


async def test_the_side_bar_goes_and_comes_back_with_the_keyboard(folder):
    async with workbench(folder, open_path=folder / "notes.md") as screen:
        await screen.until(lambda: screen.focus == "text")
        await screen.press("ctrl+b")
        assert not screen.app.explorer.display
        await screen.press("f9")
        assert screen.app.explorer.display
        await screen.until(lambda: screen.focus == "explorer")
