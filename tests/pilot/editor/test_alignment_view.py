"""The alignment view by keys, with an analyst that answers at once: tokens, ends, coverage, faults, what cannot be looked at."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.pilot.editor.driver import Driver, editing
from tuitune.errors import UserError
from tuitune.preflight.alignment import Alignment, CoveredBlock, CoveredPart, End, Matrix, TokenRow
from tuitune.workbench import analysis
from tuitune.workbench.views.alignment_view import AlignmentView

TOKENS = [
    TokenRow("<|im_start|>", 1, ["bos"], True, 1.02, ("<|im_end|>", 0.41), 7473, 7473),
    TokenRow("<|reserved|>", 9, [], True, 0.0, None, 12, 3, faults=["its row was never trained (near zero) and is not trained now"]),
    TokenRow("<|tool\x1b[2J|>", 322, ["new"], False, None, None, 40, 0, True),
]
PARTS = [CoveredPart("self_attn.q_proj", "trained", (64, 64), 4096, 1024), CoveredPart("input_layernorm", "unreachable", (64,), 64, 0)]
FOUND = Alignment(
    322,
    321,
    Matrix("model.embed_tokens.weight", 322, 64, "F32"),
    None,
    384,
    True,
    "LoRA",
    TOKENS,
    [
        End("eos", [(2, "<|im_end|>")], [(2, "<|im_end|>")], [(0, "<|endoftext|>")], False),
        End("pad", [(3, "<|pad|>")], [(3, "<|pad|>")], [], True),
        End("bos", [(1, "<|im_start|>")], [], [], None),
    ],
    [
        CoveredBlock("", None, None, [CoveredPart("model.embed_tokens", "frozen", (322, 64), 20608, 0)]),
        CoveredBlock("model.layers", 0, 29, PARTS),
    ],
    left_out=250,
)


class FakeAnalyst:
    """Answers as the real one does, or raises what it is given."""

    def __init__(self) -> None:
        self.asked = 0
        self.found = FOUND
        self.error: Exception | None = None

    def request(self, op: str, args: dict[str, Any], *, progress: Callable[[str], None], cancel: threading.Event) -> dict[str, Any]:
        assert op == "alignment"
        self.asked += 1
        progress("reading rows of the embedding")
        if self.error is not None:
            raise self.error
        made: dict[str, Any] = msgspec.to_builtins(self.found)
        return made

    def start(self) -> None:
        """It has started."""

    def close(self) -> None:
        """It needs no end."""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return tmp_path / "r.yaml"


@pytest.fixture
def analyst(monkeypatch: pytest.MonkeyPatch) -> FakeAnalyst:
    fake = FakeAnalyst()
    monkeypatch.setattr(analysis, "analyst_of", lambda app: fake)
    return fake


async def shown(driver: Driver, wait_for: str = "322 tokens") -> AlignmentView:
    await driver.press("alt+a")
    await driver.until(lambda: isinstance(driver.app.editor.active, AlignmentView))
    await driver.until(lambda: wait_for in driver.screen)
    view = driver.app.editor.active
    assert isinstance(view, AlignmentView)
    return view


def about(view: AlignmentView) -> str:
    return " ".join(view._about.text().split())


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_alt_a_shows_tokens_against_rows_with_faults_first(recipe: Path, analyst: FakeAnalyst, size: tuple[int, int]) -> None:
    async with editing(recipe, size=size) as driver:
        view = await shown(driver)
        head = " ".join(view._head.text().split())
        assert "the largest id 321 · 322 rows of 64 (F32), 384 in training · output tied to it" in head
        assert "LoRA: 30,720 parameters trained" in head
        lines = driver.screen.splitlines()
        at = next(at for at, line in enumerate(lines) if "token" in line and "role" in line)
        first, second, third = lines[at + 1 : at + 4]
        assert "! <|reserved|>" in first
        assert "0.00×" in first
        assert all(part in second for part in ("<|im_start|>", "bos", "1.02×", "7,473"))
        assert "new" in third
        assert "yes" in third
        assert "\x1b" not in driver.screen, "shown, not obeyed"
        assert "250 added tokens that nothing uses" in driver.screen
        assert "never trained (near zero)" in about(view)


async def test_a_wide_screen_has_the_nearest_row_and_the_loss_in_the_table(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe, size=(170, 40)) as driver:
        await shown(driver)
        assert "nearest row" in driver.screen
        assert "0.41 <|im_end|>" in driver.screen
        assert "in loss" in driver.screen


async def test_down_says_all_about_the_next_token(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe, size=(80, 24)) as driver:
        view = await shown(driver)
        await driver.press("down")
        assert "most similar row is that of <|im_end|> (cosine 0.410). 7,473 training rows have it" in about(view)
        await driver.press("down")
        assert "its row begins at the mean of all others" in about(view)
        assert "trained and saved with the result" in about(view)


async def test_tab_turns_to_the_ends_and_n_to_what_disagrees(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe, size=(80, 24)) as driver:
        view = await shown(driver)
        await driver.press("tab", "down", "down")
        assert "generation_config" in driver.screen
        assert "Only one place names a bos token" in about(view)
        await driver.press("n")
        assert "generation stops at <|endoftext|>" in about(view)
        await driver.press("tab", "n")
        await driver.until(lambda: "Nothing is wrong on this page." in driver.told)


async def test_c_shows_blocks_that_are_alike_as_one(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe, size=(80, 24)) as driver:
        view = await shown(driver)
        await driver.press("c")
        assert "model.layers 0 to 29, 30 alike" in driver.screen
        assert "● self_attn.q_proj" in driver.screen
        assert "+1,024" in driver.screen
        await driver.press("end")
        assert "LoRA has no layer for it" in about(view)
        await driver.press("t")
        assert "<|im_start|>" in driver.screen


async def test_what_fails_is_said_and_r_asks_again(recipe: Path, analyst: FakeAnalyst) -> None:
    analyst.error = UserError("the model folder /m does not exist")
    async with editing(recipe, size=(170, 40)) as driver:
        await shown(driver, "the model folder /m does not exist")
        analyst.error = None
        analyst.found = msgspec.structs.replace(FOUND, input=None, rows=None, notes=["weights: still to be fetched"])
        await driver.press("r")
        await driver.until(lambda: "the weights are not on this box" in driver.screen)
        assert "not looked at: weights: still to be fetched" in driver.screen
        assert analyst.asked == 2
