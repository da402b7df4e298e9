"""The token view by keys, with an analyst that answers at once: rows, tokens, loss mask, faults, and what happens when it fails."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.pilot.editor.driver import Driver, editing
from tuitune.analyst.document import IGNORED, Inspection, Row, Tokens
from tuitune.errors import UserError
from tuitune.workbench.views import token_view
from tuitune.workbench.views.token_view import TokenView

TEXTS = {1: "<|im_start|>", 2: "user", 3: "\n", 4: "How", 5: " many?", 6: "Four", 7: "<|im_end|>", 8: "\x1b[2J"}
NAMES = ["template", "user", "assistant", "content"]


def tokens(name: str, ids: list[int], trained: int, pack: int | None = None) -> Tokens:
    count = len(ids)
    roles, sources = [0] * (count - trained) + [2] * trained, [3] * count
    return Tokens(name, pack, ids, [IGNORED] * (count - trained) + ids[count - trained :], list(range(count)), [0] * count, roles, sources)


ROWS = [
    Row(0, "/d/train.jsonl", 1, "kept", [tokens("input", [1, 2, 3, 4, 5, 6, 7], 2)]),
    Row(1, "/d/train.jsonl", 2, "kept", [tokens("chosen", [4, 6], 1), tokens("rejected", [4, 8], 1)]),
    Row(7, "/d/train.jsonl", 9, "dropped", []),
    Row(9, "/d/train.jsonl", 11, "truncated", [tokens("input", [4, 6], 1, pack=3)]),
]
FOUND = Inspection(40, 4, ROWS, NAMES, TEXTS, frozenset({1, 7}))


class FakeAnalyst:
    """Answers with FOUND, or raises what it is given."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.hold = threading.Event()
        self.hold.set()

    def request(self, op: str, args: dict[str, Any], *, progress: Callable[[str], None], cancel: threading.Event) -> dict[str, Any]:
        self.asked.append(args)
        progress("preparing rows")
        self.hold.wait(10)
        if self.error is not None:
            raise self.error
        return msgspec.to_builtins(FOUND, str_keys=True)


@pytest.fixture
def analyst(monkeypatch: pytest.MonkeyPatch) -> FakeAnalyst:
    fake = FakeAnalyst()
    monkeypatch.setattr(token_view, "analyst_of", lambda app: fake)
    return fake


async def opened(driver: Driver) -> TokenView:
    await driver.press("f7")
    await driver.until(lambda: isinstance(driver.app.editor.active, TokenView))
    view = driver.app.editor.active
    assert isinstance(view, TokenView)
    return view


async def shown(driver: Driver) -> TokenView:
    view = await opened(driver)
    await driver.until(lambda: view.inspection is not None)
    await driver.pilot.pause(0.05)
    return view


async def test_f7_shows_the_rows_of_the_recipe_and_the_tokens_of_the_first(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        await shown(driver)
        assert analyst.asked == [{"recipe": str(recipe)}]
        screen = driver.screen
        assert "a sample of 4 of 40 rows" in screen
        assert "user↵" in screen
        assert "How·many?Four" in screen
        assert "1/7 '<|im_start|>' id 1 special not in the loss" in screen


async def test_arrows_go_from_token_to_token_and_say_what_each_is(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        view = await shown(driver)
        await driver.press("tab", "right", "right", "right", "right", "right")
        assert view._flow.cursor == 5
        assert "6/7 'Four' id 6 in the loss" in driver.screen
        await driver.press("home", "down")
        assert view._flow.cursor == 3
        await driver.press("end")
        assert "7/7 '<|im_end|>' id 7 special" in driver.screen


async def test_n_goes_to_the_next_row_with_a_fault_and_round_the_end(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        view = await shown(driver)
        await driver.press("n")
        assert view.row == ROWS[2]
        assert "nothing of it is trained on" in driver.screen
        await driver.press("n")
        assert view.row == ROWS[3]
        assert "input in pack 3" in driver.screen
        assert "position 0 of pack 3, document 0" in driver.screen
        await driver.press("n")
        assert view.row == ROWS[2]


async def test_s_shows_the_other_side_of_a_pair_and_i_numbers(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        await shown(driver)
        await driver.press("down")
        assert "chosen (1 of 2, s: next)" in driver.screen
        await driver.press("s")
        assert "rejected (2 of 2" in driver.screen
        assert "\x1b[2J" not in driver.screen, "shown, not obeyed"
        await driver.press("i")
        assert "4 8 " in driver.screen


async def test_changes_are_saved_before_rows_are_prepared(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        await driver.at(2, 11)
        await driver.type("x")
        await shown(driver)
        assert "name: demox" in recipe.read_text()


async def test_a_refusal_is_shown_and_r_asks_again(recipe: Path, analyst: FakeAnalyst) -> None:
    analyst.error = UserError("SFTTrainer refuses this recipe: the chat template is not training-compatible")
    async with editing(recipe) as driver:
        view = await opened(driver)
        await driver.until(lambda: "refuses this recipe" in driver.screen)
        analyst.error = None
        await driver.press("r")
        await driver.until(lambda: view.inspection is not None)


async def test_leaving_withdraws_the_request(recipe: Path, analyst: FakeAnalyst) -> None:
    analyst.hold.clear()
    async with editing(recipe) as driver:
        view = await opened(driver)
        await driver.until(lambda: "preparing rows" in driver.screen)
        await driver.press("ctrl+w")
        await driver.until(lambda: view._cancel.is_set())
        analyst.hold.set()


@pytest.mark.parametrize("size", [(80, 24), (60, 15), (200, 50)])
async def test_every_size_shows_rows_tokens_and_the_token_under_the_cursor(
    recipe: Path, analyst: FakeAnalyst, size: tuple[int, int]
) -> None:
    async with editing(recipe, size=size) as driver:
        await shown(driver)
        assert "row tokens inloss" in driver.screen
        assert "How·many?" in driver.screen
        assert "1/7 '<|im_start|>'" in driver.screen
