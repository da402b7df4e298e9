"""Plans of families without formulas, from what the analyst has counted once: when it is asked, what is remembered, what is said."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.counted import CONFIG, PARAMETERS, FakeCount
from tests.support.own_cache import own_cache
from tests.unit.workbench.test_plan_state import FULL, RECIPES
from tuitune.errors import UserError
from tuitune.memory.measured import Growth, as_json, measured_from_json
from tuitune.memory.plan import plan
from tuitune.memory.printing import print_plan
from tuitune.memory.report import document
from tuitune.memory.settings import Device, Settings
from tuitune.memory.static import trained_parameters
from tuitune.planning import read_recipe
from tuitune.preflight.cards import parse_card
from tuitune.workbench.views.plan import lines
from tuitune.workbench.views.plan.reading import read
from tuitune.workbench.views.plan.sliders import BY_NAME, SLIDERS
from tuitune.workbench.views.plan.state import PlanState, move, outcome, values_of

CARD = parse_card("RTX 4090")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_cache(monkeypatch, tmp_path)


def write(folder: Path, text: str = RECIPES["lora"], **config: Any) -> Path:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "r.yaml").write_text(text)
    return folder / "r.yaml"


def kept(folder: Path) -> list[Path]:
    return list(folder.rglob("counted-models/*.json"))


def test_the_analyst_is_asked_once_for_a_model_and_a_way_of_training(tmp_path: Path) -> None:
    path, count = write(tmp_path), FakeCount()
    first = read_recipe(path, CARD, count)
    assert read_recipe(path, CARD, count) == first
    assert read_recipe(path, CARD) == first  # nobody to ask any more
    assert len(count.asked) == 1
    assert count.asked[0]["folder"] == str(tmp_path / "model")
    assert first.shape.parameters == PARAMETERS


@pytest.mark.parametrize(
    ("text", "config"), [(RECIPES["lora"], {"hidden_size": 256}), (RECIPES["lora"].replace("all-linear", "[o_proj]"), {})]
)
def test_another_model_or_another_way_is_counted_by_itself(text: str, config: dict[str, Any], tmp_path: Path) -> None:
    count = FakeCount()
    read_recipe(write(tmp_path), CARD, count)
    read_recipe(write(tmp_path, text, **config), CARD, count)
    assert len(count.asked) == 2


@pytest.mark.parametrize("change", ["max_length: 512", "max_length: 2048, learning_rate: 1.0e-4"])
def test_length_and_learning_rate_change_nothing_about_what_was_counted(change: str, tmp_path: Path) -> None:
    count = FakeCount()
    for training in ("max_length: 2048", change):
        read_recipe(write(tmp_path, FULL + f"training: {{{training}}}\n"), CARD, count)
    assert len(count.asked) == 1


@pytest.mark.parametrize("broken", ["", "[]", "{}", '{"linears": 3}', "[" * 100_000])
def test_a_broken_answer_in_the_cache_is_asked_for_again(broken: str, tmp_path: Path) -> None:
    path, count = write(tmp_path), FakeCount()
    first = read_recipe(path, CARD, count)
    kept(tmp_path)[0].write_text(broken)
    assert read_recipe(path, CARD, count) == first
    assert len(count.asked) == 2


def test_where_nobody_can_be_asked_one_command_does_it(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(UserError, match=rf"no formula for models of type cohere2, .*do it once: tuitune plan {path}"):
        read_recipe(path, CARD)


def test_the_plan_says_what_it_rests_on(tmp_path: Path) -> None:
    from rich.console import Console

    found = document(read_recipe(write(tmp_path), CARD, FakeCount()))
    assert found["basis"] == "measured on a meta model"
    assert found["model"] == {"family": "cohere2", "parameters": PARAMETERS}
    console = Console(record=True, width=200)
    print_plan(found, console)
    assert "cohere2 is a family tuitune has no formula for: measured on a model without memory" in console.export_text()


def test_the_plan_view_says_it_too(tmp_path: Path) -> None:
    state = PlanState(read(write(tmp_path), CARD, FakeCount()))
    drawn = lines.upper(state, outcome(state), 120, roomy=True, wide=True)
    assert "a family tuitune has no formula for: measured on a model without memory" in "\n".join(
        "".join(text for text, _ in line) for line in drawn
    )


@pytest.mark.parametrize("name", RECIPES)
def test_wherever_sliders_and_advice_lead_has_been_counted(name: str, tmp_path: Path) -> None:
    state = PlanState(read(write(tmp_path, RECIPES[name]), CARD, FakeCount()))
    for slider in SLIDERS:
        for value in values_of(state, slider):
            moved = move(state, slider.name, value)
            assert outcome(moved).plan.nvml > 0
            for other in values_of(moved, BY_NAME["weights"]):
                assert outcome(move(moved, "weights", other)).plan.nvml > 0


def test_a_rank_adds_what_its_adapters_keep(tmp_path: Path) -> None:
    planned = read_recipe(write(tmp_path), CARD, FakeCount())
    low, high = (replace(planned.settings, rank=rank, checkpoint_every=0) for rank in (16, 32))
    assert trained_parameters(planned.shape, high) == 2 * trained_parameters(planned.shape, low)
    kept_by = [
        sum(one.bytes for one in plan(planned.shape, one, Device()).of_phase("forward") if one.name == "activations") for one in (low, high)
    ]
    copies = 2 * 16 * (512 * 16 + 2048 * 8)
    assert kept_by[1] - kept_by[0] == 16 * 2 * 12 * low.tokens + copies


def test_growth_is_a_constant_a_share_of_positions_and_one_of_their_pairs() -> None:
    assert Growth(10.0, 2.0, 0.5).at(Settings(length=8, batch=3)) == 10 + 24 * (2 + 4)
    assert Growth(-10.0, 0.0, 0.0, least=5.0).at(Settings(length=8, batch=3)) == 5


def test_what_was_counted_goes_through_json_unchanged(tmp_path: Path) -> None:
    measured = read_recipe(write(tmp_path), CARD, FakeCount()).shape.measured
    assert measured is not None
    assert measured_from_json(json.loads(json.dumps(as_json(measured)))) == measured
