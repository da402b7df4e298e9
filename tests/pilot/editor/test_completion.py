"""Completion by keys: it helps and is never in the way."""

from pathlib import Path

from textual import events

from tests.pilot.editor.driver import RECIPE, editing


async def test_it_opens_by_itself_and_tab_takes_the_first(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.press("ctrl+end")
        await driver.type("  w")
        assert driver.offered == []
        await driver.type("armup_s")
        await driver.until(lambda: driver.offered)
        await driver.press("tab")
        assert driver.view.text.endswith("\n  warmup_steps: ")
        await driver.type("5")
        assert driver.view.text.endswith("  warmup_steps: 5")


async def test_it_opens_for_a_burst_of_keys_but_not_for_a_paste(recipe: Path) -> None:
    """A slow line delivers many keys together: all of them are in the text before the first change is told."""
    async with editing(recipe) as driver:
        await driver.press("ctrl+end")
        for letter in "  warmup_s":
            driver.view.code.post_message(events.Key("space" if letter == " " else letter, letter))
        await driver.until(lambda: driver.offered)
        await driver.press("escape", "enter")
        driver.view.code.post_message(events.Paste("learn"))
        await driver.until(lambda: driver.view.text.endswith("learn"))
        await driver.pilot.pause()
        assert driver.offered == []


async def test_values_follow_a_key_that_was_taken(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.press("ctrl+end")
        await driver.type("  lr_sch")
        await driver.press("tab")
        await driver.until(lambda: "cosine" in driver.offered)
        await driver.type("cos")
        assert driver.offered[0] == "cosine"
        await driver.press("tab")
        assert driver.view.text.endswith("\n  lr_scheduler_type: cosine")
        assert driver.offered == []


async def test_escape_closes_and_ctrl_space_asks(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.press("ctrl+end")
        await driver.type("  save_strategy: ")
        await driver.until(lambda: "epoch" in driver.offered)
        await driver.press("escape")
        assert driver.offered == []
        await driver.press("ctrl+@")
        offered = driver.offered
        await driver.press("down", "enter")
        assert driver.view.text.endswith(f"  save_strategy: {offered[1]}")


async def test_enter_is_a_new_line_when_the_list_has_opened_by_itself(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.press("ctrl+end")
        await driver.type("  seed\n")
        assert driver.view.text.endswith("  seed\n  ")


async def test_in_the_middle_of_a_key_the_whole_key_is_replaced_and_its_colon_kept(recipe: Path) -> None:
    async with editing(recipe, RECIPE.replace("max_steps", "lear_rate")) as driver:
        await driver.at(12, 7)
        await driver.press("ctrl+space", "tab")
        assert "\n  learning_rate: 3\n" in driver.view.text
        assert driver.view.place == (12, 16)


async def test_it_goes_when_the_cursor_leaves_the_word(recipe: Path) -> None:
    async with editing(recipe) as driver:
        for leave in ("home", "ctrl+home", "escape"):
            await driver.press("ctrl+end")
            await driver.type("  warm")
            await driver.until(lambda: driver.offered)
            await driver.press(leave)
            assert driver.offered == [], leave
            driver.view.action_reload()
            await driver.pilot.pause()


async def test_fixes_undo_and_erasing_do_not_open_it(recipe: Path) -> None:
    async with editing(recipe, RECIPE.replace("max_steps", "max_step")) as driver:
        await driver.press("f8", "f4")
        assert "max_steps" in driver.view.text
        assert driver.offered == []
        await driver.press("ctrl+z")
        await driver.press("end", "backspace", "backspace", "backspace", "backspace")
        assert driver.offered == []


async def test_erasing_narrows_back_a_list_that_is_open(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.press("ctrl+end")
        await driver.type("  lr_scheduler_t")
        await driver.until(lambda: driver.offered)
        few = len(driver.offered)
        await driver.press("backspace", "backspace")
        assert len(driver.offered) > few


async def test_comments_and_free_text_are_left_alone(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.press("ctrl+end")
        await driver.type("# warmup steps")
        assert driver.offered == []
        await driver.at(2, 11)
        await driver.type("training")
        assert driver.offered == []


async def test_inside_braces_the_keys_of_the_source_are_offered(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.at(10, RECIPE.splitlines()[9].index(",") + 2)
        await driver.type(" max")
        await driver.until(lambda: "max_rows" in driver.offered)
        await driver.press("tab")
        assert "{path: data/train.jsonl, max_rows:  columns" in driver.view.text


async def test_where_nothing_fits_it_says_so(recipe: Path) -> None:
    async with editing(recipe) as driver:
        await driver.at(1, 4)
        await driver.press("ctrl+space")
        assert "Nothing fits here" in driver.told


async def test_the_list_never_covers_the_line_that_is_typed(recipe: Path) -> None:
    """At the bottom of a small screen it opens upwards, in a flat one it is as low as it must be."""
    for size, line in (((80, 24), 20), ((120, 40), 4), ((60, 12), 3)):
        async with editing(recipe, RECIPE + "#\n" * 30, size=size) as driver:
            text = RECIPE.partition("training:\n")[0] + "# filler\n" * max(0, line - 11) + "training:\n"
            driver.view.code.load_text(text)
            await driver.pilot.pause()
            await driver.press("ctrl+end")
            await driver.type("  gradient")
            await driver.until(lambda: driver.offered)
            await driver.pilot.pause()
            cursor = driver.view.code.cursor_screen_offset
            popup = driver.view.popup.region
            assert popup.height >= 1
            assert not popup.contains(*cursor), size
            assert "  gradient" in driver.screen.splitlines()[cursor.y]
            assert driver.view.region.contains_region(popup), size
