"""The plan view by keys: bar and numbers against the real plan, sliders, writing and undo, cards, who else is there, what has no plan."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.pilot.editor.driver import Driver, editing
from tests.support.counted import CONFIG, FakeCount
from tests.support.fake_preflight import FakePreflight
from tests.support.model_shapes import CONFIGS
from tests.support.own_cache import own_cache
from tuitune.memory.plan import Plan, plan
from tuitune.memory.settings import device
from tuitune.planning import read_recipe
from tuitune.preflight import cards
from tuitune.preflight.cards import GIB, parse_card
from tuitune.workbench import check_control
from tuitune.workbench.gpu_feed import GpuNow
from tuitune.workbench.gpu_reading import GpuReading, GpuSample, OtherProcess
from tuitune.workbench.views import plan_view
from tuitune.workbench.views.plan import asking
from tuitune.workbench.views.plan_view import PlanView

BOX = replace(parse_card("RTX 4090"), named=False)
RECIPE = """\
# mine
name: demo
task: sft
model: {name_or_path: ./model, dtype: bfloat16}
peft: {r: 16, target_modules: all-linear}
dataset:
  train: [{path: t.jsonl}]
training:
  max_length: 2048  # why
  per_device_train_batch_size: 4
  gradient_accumulation_steps: 4
"""


@pytest.fixture(autouse=True)
def box(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipe: Path) -> None:
    """This box has one 4090; the model beside the recipe is Llama 3.1 8B as far as its config says; nothing is checked for real."""
    own_cache(monkeypatch, tmp_path)
    monkeypatch.setattr(cards, "this_box", lambda: BOX)
    monkeypatch.setattr(plan_view, "LOOK_S", 0.05)
    monkeypatch.setattr(check_control, "run_preflight", FakePreflight())
    (recipe.parent / "model").mkdir()
    (recipe.parent / "model" / "config.json").write_text(json.dumps(CONFIGS["llama3.1-8b"]))
    (recipe.parent / "t.jsonl").write_text('{"text": "x"}\n')


async def opened(driver: Driver) -> PlanView:
    await driver.press("alt+m")
    await driver.until(lambda: isinstance(driver.app.editor.active, PlanView))
    view = driver.app.editor.active
    assert isinstance(view, PlanView)
    await driver.until(lambda: view.outcome is not None or view.refused)
    await driver.pilot.pause()
    return view


def of_file(path: Path, card: str = "RTX 4090") -> Plan:
    """The plan that the command line would make of a recipe."""
    planned = read_recipe(path, parse_card(card))
    return plan(planned.shape, planned.settings, device(parse_card(card).capability))


def gib(size: int) -> str:
    return f"{size / GIB:.2f}"


def head(view: PlanView) -> str:
    """The upper half of the view, however it is wrapped."""
    return " ".join(view._head.text().split())


def shows_plan(view: PlanView, made: Plan) -> bool:
    """Need, the largest parts and the peak among the phases are shown as the plan has them."""
    largest = sorted(made.of_phase(made.peak), key=lambda component: -component.bytes)[:3]
    words = [
        f"needs {gib(made.needed)} GiB",
        f"▲ {made.peak} {gib(made.allocated)}",
        *(f"{part.name} {gib(part.bytes)}" for part in largest),
    ]
    return all(word in head(view) for word in words)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_alt_m_shows_the_plan_of_the_recipe_on_this_box_s_card(recipe: Path, size: tuple[int, int]) -> None:
    async with editing(recipe, RECIPE, size=size) as driver:
        view = await opened(driver)
        made = of_file(recipe)
        assert shows_plan(view, made)
        assert "8.03 B parameters" in driver.screen
        assert "✓ fits on RTX 4090 of this box, 24 GiB" in driver.screen
        assert f"{gib(int(23.64 * GIB) - made.needed)} free" in head(view)
        assert view.status == f"{gib(made.needed)} GiB, fits"
        assert "2,048 tokens" in driver.screen
        assert "4 × 4 = 16 rows" in driver.screen


async def test_right_and_left_recompute_at_once_and_say_what_the_recipe_has(recipe: Path) -> None:
    async with editing(recipe, RECIPE, size=(80, 24)) as driver:
        view = await opened(driver)
        await driver.press("left", "left")
        await driver.pilot.pause()
        assert "● length        1,024 tokens" in driver.screen
        assert "recipe: 2,048 tokens" in driver.screen
        await driver.press("down", "right")
        await driver.pilot.pause()
        assert "8 × 2 = 16 rows" in driver.screen
        wanted = RECIPE.replace("2048", "1024").replace("size: 4", "size: 8").replace("steps: 4", "steps: 2")
        other = recipe.with_name("wanted.yaml")
        other.write_text(wanted)
        assert shows_plan(view, of_file(other))
        assert recipe.read_text() == RECIPE, "nothing is written by moving"


async def test_home_and_end_go_to_the_ends_and_m_to_the_most_that_fits(recipe: Path) -> None:
    async with editing(recipe, RECIPE, size=(120, 40)) as driver:
        view = await opened(driver)
        await driver.press("end")
        assert view.outcome.settings.length == 131_072
        await driver.until(lambda: "✗ does not fit on RTX 4090" in driver.screen)
        assert "the card ends at 23.64 GiB" in driver.screen
        assert view.status.endswith("does not fit")
        await driver.press("home")
        assert view.outcome.settings.length == 128
        await driver.press("m")
        assert view.outcome.plan.needed <= 0.95 * 23.64 * GIB
        await driver.until(lambda: "✓ fits" in driver.screen)
        await driver.press("down", "down", "down", "down", "down", "home")
        assert view._list.cursor == 0, "on other lines Home goes to the first line"


@pytest.mark.parametrize("key", ["r", "escape"])
async def test_r_and_escape_put_the_sliders_back(recipe: Path, key: str) -> None:
    async with editing(recipe, RECIPE, size=(80, 24)) as driver:
        view = await opened(driver)
        await driver.press("left", "down", "right", "down", "right")
        assert len(view.state.moved) == 3
        await driver.press(key)
        await driver.until(lambda: not view.state.moved)
        await driver.until(lambda: shows_plan(view, of_file(recipe)))
        assert "recipe: " not in driver.screen


async def test_w_writes_the_sliders_into_the_open_recipe_and_one_undo_takes_it_back(recipe: Path) -> None:
    async with editing(recipe, RECIPE, size=(120, 40)) as driver:
        view = await opened(driver)
        await driver.press("left", "left", "down", "left")
        await driver.press("w")
        written = RECIPE.replace("2048  #", "1024  #").replace("size: 4", "size: 2").replace("steps: 4", "steps: 8")
        await driver.until(lambda: recipe.read_text() == written)
        await driver.until(lambda: not view.state.moved and view.state.basis.text == written)
        await driver.until(lambda: shows_plan(view, of_file(recipe)))
        assert "Written: training.max_length: 1024, training.per_device_train_batch_size: 2" in driver.told
        await driver.press("w")
        await driver.until(lambda: "there is nothing to write" in driver.told)
        await driver.press("alt+comma")
        await driver.until(lambda: driver.view.text == written)
        await driver.press("ctrl+z")
        await driver.until(lambda: driver.view.text == RECIPE and driver.view.dirty)


async def test_undo_last_fix_brings_a_closed_recipe_back_and_the_view_follows(recipe: Path) -> None:
    async with editing(recipe, RECIPE, size=(120, 40)) as driver:
        view = await opened(driver)
        await driver.press("alt+comma")
        await driver.until(lambda: driver.app.editor.active.kind == "recipe")
        await driver.press("ctrl+w")
        await driver.until(lambda: driver.app.editor.active is view)
        await driver.press("left", "w")
        await driver.until(lambda: "max_length: 1536  # why" in recipe.read_text())
        await driver.press("f1", *"undo last fix", "enter")
        await driver.question("Confirm")
        await driver.press("y")
        await driver.until(lambda: recipe.read_text() == RECIPE)
        await driver.until(lambda: view.state.basis.text == RECIPE and shows_plan(view, of_file(recipe)))


async def test_a_recipe_with_unsaved_changes_is_not_written_over(recipe: Path) -> None:
    async with editing(recipe, RECIPE, size=(120, 40)) as driver:
        view = await opened(driver)
        await driver.press("alt+comma")
        await driver.until(lambda: driver.app.editor.active.kind == "recipe")
        await driver.type("#")
        await driver.press("alt+full_stop")
        await driver.until(lambda: driver.app.editor.active is view)
        await driver.press("left", "w")
        await driver.until(lambda: "Not written: r.yaml has unsaved changes: save them first (Ctrl+S)." in driver.told)
        assert recipe.read_text() == RECIPE
        assert view.state.moved, "the sliders stay"


async def test_opening_saves_first_and_the_view_follows_what_others_write(recipe: Path) -> None:
    async with editing(recipe, RECIPE, size=(120, 40)) as driver:
        await driver.at(9, 18)
        await driver.press("delete")
        view = await opened(driver)
        assert view.outcome.settings.length == 204, "the text as it was edited"
        await driver.press("down", "right")
        recipe.write_text(RECIPE.replace("2048", "512"))
        await driver.until(lambda: view.outcome.settings.length == 512)
        assert view.outcome.settings.batch == 8, "a moved slider stays moved"


async def test_enter_on_an_advice_writes_it_with_those_it_rests_on(recipe: Path) -> None:
    async with editing(recipe, RECIPE, size=(120, 40)) as driver:
        view = await opened(driver)
        await driver.press("G", "g", "g")  # back round the end, this box's again, then the T4
        await driver.until(lambda: "✗ does not fit on T4, 15 GiB" in driver.screen)
        assert "to make it fit, each on top of those before" in driver.screen
        await driver.press(*["down"] * 7)
        assert "Enter writes quantization: {load_in_4bit: true," in " ".join(view._about.text().split())
        assert "a base model that is rounded to 4 bits" in " ".join(view._about.text().split())
        await driver.press("enter")
        await driver.until(lambda: "load_in_4bit: true" in recipe.read_text())
        assert "optim: adamw_8bit" in recipe.read_text(), "with the one before"
        await driver.until(lambda: "✓ fits on T4, 15 GiB" in driver.screen)
        assert shows_plan(view, of_file(recipe, "T4"))


async def test_a_click_on_an_advice_only_goes_there(recipe: Path) -> None:
    async with editing(recipe, RECIPE, size=(120, 40)) as driver:
        view = await opened(driver)
        await driver.press("g")
        await driver.until(lambda: "does not fit on T4" in driver.screen)
        await driver.pilot.click(view._list, offset=(4, 7))
        await driver.pilot.pause()
        assert view._list.cursor == 7
        assert recipe.read_text() == RECIPE


async def test_enter_on_a_card_plans_for_it_and_sliders_stay(recipe: Path) -> None:
    async with editing(recipe, RECIPE, size=(120, 40)) as driver:
        view = await opened(driver)
        await driver.press("left", "end")
        await driver.press(*["down"] * 20)
        assert "B200" in driver.screen
        await driver.press("enter")
        await driver.until(lambda: "on B200, 178 GiB" in driver.screen)
        assert view.state.moved == {"length": 131_072}


async def test_without_a_gpu_the_cards_say_where_it_would_fit(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "this_box", lambda: cards.CPU)
    async with editing(recipe, RECIPE, size=(80, 24)) as driver:
        view = await opened(driver)
        assert "this box has no GPU: g plans for a card" in head(view)
        await driver.press("m")
        await driver.until(lambda: "Choose a card first: g." in driver.told)
        await driver.press("g")
        await driver.until(lambda: "does not fit on T4" in driver.screen)
        assert view.state.basis.box is None


async def test_what_others_hold_is_part_of_the_bar_and_counts(recipe: Path) -> None:
    ada = OtherProcess(7, "ada", "python\x1b[2J", 6 * GIB)
    card = GpuReading(0, "GPU-1", "RTX 4090", used=6.2 * GIB, total=24 * GIB, others=(ada,))
    async with editing(recipe, RECIPE, size=(120, 40)) as driver:
        view = await opened(driver)
        assert view.outcome.fits
        await driver.until(lambda: driver.app.gpu_feed is not None)
        driver.app.gpu_feed.offer(GpuNow(GpuSample((card,))))
        await driver.until(lambda: "╳ others (ada, python␛[2J) 6.00" in driver.screen)
        assert "✗ does not fit" in driver.screen
        assert "of which others hold 6.00 GiB" in head(view)
        assert "╳╳" in driver.screen
        assert view.status.endswith("does not fit")


@pytest.mark.parametrize(
    ("added", "words"),
    [
        ("  torch_compile: true\n", ["no memory plan with training.torch_compile yet", "plan without it"]),
        ("  use_cpu: true\n", ["trains on the CPU", "remove launch.gpus and use_cpu to plan it"]),
        ("  max_seq_lenth: 4\n", ["has a problem", "max_seq_lenth"]),
    ],
)
async def test_a_recipe_without_a_plan_says_why_and_what_to_do(recipe: Path, added: str, words: list[str]) -> None:
    async with editing(recipe, RECIPE + added, size=(80, 24)) as driver:
        view = await opened(driver)
        await driver.until(lambda: "No memory plan" in driver.screen)
        shown = head(view)
        assert all(word in shown for word in words), shown
        await driver.press("left", "w", "m", "enter", "g", "end")
        recipe.write_text(RECIPE)
        await driver.until(lambda: shows_plan(view, of_file(recipe)))


async def test_a_model_that_is_not_here_says_how_to_fetch_its_sizes_and_r_looks_again(recipe: Path) -> None:
    (recipe.parent / "model" / "config.json").rename(recipe.parent / "kept.json")
    (recipe.parent / "model").rmdir()
    async with editing(recipe, RECIPE.replace("./model", "nobody/nothing"), size=(80, 24)) as driver:
        view = await opened(driver)
        await driver.until(lambda: "hf download nobody/nothing config.json" in head(view))
        (recipe.parent / "nobody" / "nothing").mkdir(parents=True)
        (recipe.parent / "kept.json").rename(recipe.parent / "nobody" / "nothing" / "config.json")
        recipe.write_text(RECIPE.replace("./model", "./nobody/nothing"))
        await driver.press("r")
        await driver.until(lambda: shows_plan(view, of_file(recipe)))


async def test_a_fault_of_ours_is_said_in_the_view_too(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no layers")

    monkeypatch.setattr(asking, "read", broken)
    async with editing(recipe, RECIPE, size=(80, 24)) as driver:
        view = await opened(driver)
        assert "no plan could be made: ZeroDivisionError: no layers; please report this" in head(view)


async def test_a_family_without_a_formula_is_measured_by_the_analyst_once(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, asked = FakeCount(), threading.Event()

    class Analyst:
        def request(self, op: str, wishes: dict[str, Any], **_: Any) -> dict[str, Any]:
            assert op == "memory"
            assert asked.wait(30)
            return count(wishes)

    monkeypatch.setattr(asking, "analyst_of", lambda app: Analyst())
    (recipe.parent / "model" / "config.json").write_text(json.dumps(CONFIG))
    async with editing(recipe, RECIPE, size=(100, 32)) as driver:
        await driver.press("alt+m")
        await driver.until(lambda: isinstance(driver.app.editor.active, PlanView))
        view = driver.app.editor.active
        assert isinstance(view, PlanView)
        await driver.until(lambda: "a model without memory is measured, once" in head(view))
        asked.set()
        await driver.until(lambda: "a family tuitune has no formula for: measured on a model without memory" in head(view))
        await driver.press("r")
        await driver.until(lambda: shows_plan(view, of_file(recipe)))
    assert len(count.asked) == 1
