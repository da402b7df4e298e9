"""What runs on this box have measured, and what later plans make of it."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_shapes import CONFIGS
from tests.unit.memory.test_planning import write
from tuitune.memory.calibration import KEPT, Box, Measured, box_of, calibration_file, keep_measured, read_calibration, unused_share
from tuitune.memory.families import read_shape
from tuitune.memory.plan import plan
from tuitune.memory.printing import print_plan
from tuitune.memory.report import document
from tuitune.memory.settings import MIB, Device, Settings, device
from tuitune.planning import read_recipe
from tuitune.preflight.cards import Card

GIB = 1 << 30
H200 = Box("NVIDIA H200", "580.65", "2.11.0")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_box_that_has_measured_nothing_is_planned_with_the_figures_that_everybody_has() -> None:
    assert read_calibration(H200) is None
    assert device((9, 0), read_calibration(H200)) == Device()


def test_the_median_of_the_runs_counts_and_one_run_counts_once() -> None:
    for run, context in (("a", 600), ("b", 500), ("c", 2000), ("a", 700)):  # the second figures of "a" take the place of its first
        keep_measured(H200, run, Measured(context * MIB, 0.04))
    found = read_calibration(H200)
    assert found is not None
    assert (found.context, found.unused, found.runs, found.file) == (700 * MIB, 0.04, 3, calibration_file())


@pytest.mark.parametrize(
    "other", [Box("NVIDIA A100", "580.65", "2.11.0"), Box("NVIDIA H200", "590.1", "2.11.0"), Box("NVIDIA H200", "580.65", "3.0")]
)
def test_another_card_driver_or_torch_has_figures_of_its_own(other: Box) -> None:
    keep_measured(H200, "a", Measured(700 * MIB, 0.04))
    assert read_calibration(other) is None
    keep_measured(other, "a", Measured(300 * MIB, None))
    assert (read_calibration(H200) or 0) != read_calibration(other)


def test_only_the_newest_runs_are_kept() -> None:
    for number in range(KEPT + 5):
        keep_measured(H200, f"run-{number}", Measured((100 + number) * MIB, None))
    kept = json.loads(calibration_file().read_text())["boxes"][H200.key]
    assert list(kept) == [f"run-{number}" for number in range(5, KEPT + 5)]


@pytest.mark.parametrize(
    "broken",
    [
        *("", "{", "[]", "null", "7", '{"schema": 2, "boxes": {}}', '{"schema": 1}', '{"schema": 1, "boxes": []}', "[" * 100_000),
        json.dumps({"schema": 1, "boxes": {H200.key: [1, 2]}}),
        json.dumps(
            {"schema": 1, "boxes": {H200.key: {"a": None, "b": {"context": "much", "unused": True}, "c": {"context": -5, "unused": 7}}}}
        ),
        '{"schema": 1, "boxes": {"NVIDIA H200, driver 580.65, torch 2.11.0": {"a": {"context": NaN, "unused": Infinity}}}}',
    ],
)
def test_a_broken_file_is_no_calibration_and_the_next_run_begins_it_anew(broken: str) -> None:
    calibration_file().write_text(broken)
    assert read_calibration(H200) is None
    keep_measured(H200, "a", Measured(700 * MIB, 0.03))
    found = read_calibration(H200)
    assert found is not None
    assert (found.context, found.runs) == (700 * MIB, 1)


def test_figures_that_cannot_be_true_are_not_kept() -> None:
    keep_measured(H200, "a", Measured(900 * GIB, 1.5))
    assert not calibration_file().exists()


def test_a_cache_that_cannot_be_reached_is_no_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert read_calibration(H200) is None


def test_small_runs_say_nothing_about_the_allocators_unused_part() -> None:
    assert unused_share(allocated=100 * MIB, reserved=140 * MIB, explained=0) is None
    assert unused_share(allocated=10 * GIB, reserved=11 * GIB, explained=GIB // 2) == pytest.approx(0.05)
    assert unused_share(allocated=10 * GIB, reserved=10 * GIB, explained=GIB) == 0


def test_measured_figures_take_the_place_of_the_general_ones_each_by_itself() -> None:
    keep_measured(H200, "a", Measured(500 * MIB, None))
    found = device((8, 0), read_calibration(H200))
    assert (found.context, found.unused) == (500 * MIB, Device().unused)
    assert found.workspace == device((8, 0)).workspace
    shape, settings = read_shape(CONFIGS["qwen2.5-1.5b"]), Settings(length=1024, batch=4)
    general = plan(shape, settings, device((8, 0)))
    assert plan(shape, settings, found).nvml == general.nvml - 264 * MIB


def test_a_measured_unused_share_is_planned_with_where_blocks_can_be_used_again() -> None:
    """Rows of different lengths in an allocator whose segments do not grow leave more, whatever other runs had."""
    keep_measured(H200, "a", Measured(None, 0.1))
    shape, found = read_shape(CONFIGS["qwen2.5-1.5b"]), device((8, 0), read_calibration(H200))
    usual, ragged = Settings(length=1024, batch=4), Settings(length=1024, batch=4, padded=True, expandable=False)
    made, general = plan(shape, usual, found), plan(shape, usual, device((8, 0)))
    assert made.nvml - general.nvml == pytest.approx(0.075 * made.allocated, rel=1e-6)
    assert plan(shape, ragged, found) == plan(shape, ragged, device((8, 0)))


def printed(found: dict[str, Any]) -> str:
    from rich.console import Console

    console = Console(width=200, record=True, file=StringIO())
    print_plan(found, console)
    return console.export_text()


def test_a_plan_for_this_boxs_card_says_that_it_is_calibrated_and_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    card = Card("NVIDIA H200", 141 * GIB, (9, 0), driver="580.65")
    before = document(read_recipe(path, card))
    assert before["calibration"] is None
    box = box_of(card.name, card.driver)
    assert box is not None
    keep_measured(box, "a", Measured(500 * MIB, None))
    keep_measured(box, "b", Measured(600 * MIB, None))
    found = document(read_recipe(path, card))
    assert found["calibration"]["runs"] == 2
    assert found["peak"]["nvml"] == before["peak"]["nvml"] - 214 * MIB
    assert f"calibrated by 2 runs on this box ({calibration_file()}" in printed(found)
    assert found["cards"] == before["cards"], "the common cards are other boxes"


def test_a_named_card_is_another_box(tmp_path: Path) -> None:
    path = write(tmp_path)
    keep_measured(H200, "a", Measured(500 * MIB, None))
    assert document(read_recipe(path, Card("NVIDIA H200", 141 * GIB, (9, 0), named=True)))["calibration"] is None


def test_without_the_file_plans_are_as_before(tmp_path: Path) -> None:
    path, card = write(tmp_path), Card("NVIDIA H200", 141 * GIB, (9, 0), driver="580.65")
    before = document(read_recipe(path, card))
    keep_measured(box_of(card.name, card.driver) or H200, "a", Measured(500 * MIB, 0.1))
    assert document(read_recipe(path, card)) != before
    calibration_file().unlink()
    assert document(read_recipe(path, card)) == before
