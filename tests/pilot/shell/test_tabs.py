"""Opening, closing, moving among and splitting tabs: keys → tabs."""

import pytest

from tests.pilot.shell.conftest import workbench

# (keys after opening notes.md and train.jsonl, tabs, who has the keyboard)
STEPS = [
    ("", "notes.md [train.jsonl]", "data"),
    ("alt+comma", "[notes.md] train.jsonl", "text"),
    ("ctrl+pageup", "[notes.md] train.jsonl", "text"),
    ("alt+full_stop", "[notes.md] train.jsonl", "text"),
    ("ctrl+w", "[notes.md]", "text"),
    ("ctrl+w ctrl+w", "", "explorer"),
    ("ctrl+backslash", "[notes.md] | [train.jsonl]", "data"),
    ("ctrl+backslash alt+comma", "[notes.md] | [train.jsonl]", "text"),
    ("ctrl+backslash ctrl+backslash", "notes.md [train.jsonl]", "data"),
    ("ctrl+backslash ctrl+w", "[notes.md]", "text"),
    ("ctrl+backslash f6", "[notes.md] | [train.jsonl]", "explorer"),
    ("ctrl+backslash f6 f6", "[notes.md] | [train.jsonl]", "text"),
    ("ctrl+backslash shift+f6", "[notes.md] | [train.jsonl]", "text"),
    ("f6", "notes.md [train.jsonl]", "explorer"),
    ("f6 f6", "notes.md [train.jsonl]", "data"),
]


@pytest.mark.parametrize(("keys", "tabs", "focus"), STEPS)
async def test_keys(folder, keys, tabs, focus):
    async with workbench(folder) as screen:
        await screen.app.open_path(folder / "notes.md")
        await screen.app.open_path(folder / "data/train.jsonl")
        await screen.until(lambda: screen.focus == "data")
        await screen.press(keys)
        await screen.until(lambda: (screen.tabs, screen.focus) == (tabs, focus))


async def test_a_second_opening_comes_back_to_the_same_tab(folder):
    async with workbench(folder) as screen:
        first = await screen.app.open_path(folder / "notes.md")
        await screen.app.open_path(folder / "data/train.jsonl")
        assert await screen.app.open_path(folder / "notes.md") is first
        assert screen.tabs == "[notes.md] train.jsonl"


async def test_one_tab_cannot_be_split(folder):
    async with workbench(folder, open_path=folder / "notes.md") as screen:
        await screen.until(lambda: screen.tabs == "[notes.md]")
        await screen.press("ctrl+backslash")
        assert screen.tabs == "[notes.md]"
        await screen.until("Open a second tab first")


async def test_a_file_that_is_gone_says_so(folder):
    async with workbench(folder) as screen:
        await screen.app.open_path(folder / "nothing.txt")
        await screen.until("No such file")


async def test_the_breadcrumb_line_names_the_way(folder):
    async with workbench(folder, open_path=folder / "data/train.jsonl") as screen:
        await screen.until("data › train.jsonl")


async def test_hostile_names_are_shown_not_obeyed(folder):
    (folder / "a\x1b[31mred\n.md").write_text("x\x1b]0;title\x07y\n")
    async with workbench(folder) as screen:
        await screen.app.open_path(folder / "a\x1b[31mred\n.md")
        await screen.until("a␛[31mred␊.md")
        await screen.until("x␛]0;title␇y")
        assert "\x1b" not in screen.text
