"""The token view by keys, with an analyst that answers at once: rows, tokens, loss mask, faults, and what happens when it fails."""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.pilot.editor.driver import Driver, editing
from tuitune.analyst.client import Died
from tuitune.analyst.document import IGNORED, Inspection, Row, Tokens
from tuitune.analyst.survey_document import Histogram, Survey
from tuitune.errors import UserError
from tuitune.workbench import clipboard
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


SURVEY = Survey(
    total=40, looked=40, prepared_by="quick", difference="", max_length=512, tokens=900, lost=30, trained=450, longest=530, longest_row=9,
    by_role={"user": 300, "assistant": 500, "template": 100},
    histograms={
        "all": Histogram(20, [0, 0, 3, 10, *[1] * 22]), "user": Histogram(5, [40]), "assistant": Histogram(10, [1, 39]),
        "template": Histogram(1, [40]),
    },
    counts={"truncated": 1, "dropped": 0, "masked": 0, "duplicate": 2, "overlap": 0},
    faults={"truncated": [9], "dropped": [], "masked": [], "duplicate": [1, 7], "overlap": []},
    packing=None, sha256="0" * 64, seconds={},
)  # fmt: skip


class FakeAnalyst:
    """Answers with FOUND, or raises what it is given."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.surveyed: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.deaths = 0  # so many requests are answered by dying
        self.hold = threading.Event()
        self.hold.set()

    def request(self, op: str, args: dict[str, Any], *, progress: Callable[[str], None], cancel: threading.Event) -> dict[str, Any]:
        if op == "survey":
            self.surveyed.append(args)
            return msgspec.to_builtins(SURVEY)
        if op == "find":
            rows = [7, 9] if args["what"] == "Four" else []
            return {"rows": rows, "count": len(rows), "looked": 40, "total": 40}
        self.asked.append(args)
        progress("preparing rows")
        if self.deaths:
            self.deaths -= 1
            raise Died("the analyst died while it worked on this (signal 9); ask again, it starts by itself")
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


async def test_figures_over_all_rows_follow_the_sample_by_themselves(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        view = await shown(driver)
        await driver.until(lambda: view.survey is not None)
        assert analyst.surveyed == [{"recipe": str(recipe)}]
        first, second = view._head.text().splitlines()
        assert first == "all 40 rows · 900 tokens · 50 % in the loss · 1 truncated · 2 duplicate"
        assert second.startswith("a sample of 4 of 40 rows")


async def test_a_shows_the_histogram_with_the_line_of_max_length_and_h_another_role(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        view = await shown(driver)
        await driver.until(lambda: view.survey is not None)
        await driver.press("a")
        await driver.pilot.pause(0.05)
        page = " ".join(view._page.text().split())
        assert "1 row is cut at max_length; 2 rows are the same as one before; 30 tokens are never trained on" in page
        assert "by role: assistant 56 %, user 33 %, template 11 %" in page
        (marked,) = [line for line in driver.screen.splitlines() if "◂ max_length" in line]
        start, end = (int(edge) for edge in re.search(r"(\d+)–(\d+)", marked).groups())
        assert start <= 512 <= end
        await driver.press("h")
        await driver.pilot.pause(0.05)
        assert "tokens a row: assistant" in driver.screen
        assert "◂ max_length" not in driver.screen, "a line for whole rows says nothing about a role's share of them"
        await driver.press("a")
        await driver.pilot.pause(0.05)
        assert "How·many?Four" in driver.screen


async def test_f_shows_only_rows_with_one_kind_of_fault_then_the_next_then_the_sample_again(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        view = await shown(driver)
        await driver.until(lambda: view.survey is not None)
        for rows, said in (([9], "shown: the row that is cut at max_length"), ([1, 7], "shown: 2 rows that are the same as one before")):
            await driver.press("f")
            await driver.until(lambda: view.inspection is not None)
            await driver.pilot.pause(0.05)
            assert analyst.asked[-1] == {"recipe": str(recipe), "rows": rows}
            assert said in driver.screen
        await driver.press("f")
        await driver.until(lambda: view.inspection is not None)
        assert analyst.asked[-1] == {"recipe": str(recipe)}
        assert len(analyst.surveyed) == 1, "the figures are kept"


async def test_an_analyst_that_dies_is_asked_again_and_the_output_says_so(recipe: Path, analyst: FakeAnalyst) -> None:
    analyst.deaths = 1
    async with editing(recipe) as driver:
        await shown(driver)
        assert len(analyst.asked) == 2
        assert "the analyst died while it worked on this" in driver.told


async def test_an_analyst_that_dies_twice_is_told_on_the_view(recipe: Path, analyst: FakeAnalyst) -> None:
    analyst.deaths = 2
    async with editing(recipe) as driver:
        await opened(driver)
        await driver.until(lambda: "the analyst died while it worked on this (signal 9)" in driver.screen)


async def test_slash_searches_all_rows_and_f_brings_the_sample_back(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        view = await shown(driver)
        await driver.until(lambda: view.survey is not None)
        await driver.press("slash")
        await driver.type("Four\n")
        await driver.until(lambda: view.inspection is not None and view.filter == "found")
        assert analyst.asked[-1] == {"recipe": str(recipe), "rows": [7, 9]}
        await driver.until(lambda: "shown: 2 of 40 rows that have Four" in view._head.text())
        await driver.press("f")
        await driver.until(lambda: view.inspection is not None and not view.filter)
        assert analyst.asked[-1] == {"recipe": str(recipe)}


async def test_a_search_without_a_result_says_so_and_can_be_asked_again(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        view = await shown(driver)
        await driver.press("slash")
        await driver.type("Five\n")
        await driver.until(lambda: "None of 40 rows has Five" in view._head.text())
        await driver.press("slash", "escape", "f")
        await driver.until(lambda: view.inspection is not None)


async def test_c_copies_the_text_of_the_row_or_its_ids(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        await shown(driver)
        await driver.press("c")
        assert driver.app.clipboard == "<|im_start|>user\nHow many?Four<|im_end|>"
        await driver.press("i", "c")
        assert driver.app.clipboard == "[1, 2, 3, 4, 5, 6, 7]"


async def test_a_row_too_long_for_a_clipboard_is_in_a_file(
    recipe: Path, analyst: FakeAnalyst, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(clipboard, "LONGEST", 20)
    monkeypatch.setattr(clipboard, "cache_dir", lambda: tmp_path)
    async with editing(recipe) as driver:
        await shown(driver)
        await driver.press("c")
        assert (tmp_path / "clip").read_text() == "<|im_start|>user\nHow many?Four<|im_end|>"
        assert f"it is in {tmp_path / 'clip'}" in driver.told
        assert driver.app.clipboard == ""
