"""What the plan expects of a batch that is known, phase by phase, and what to change when it does not fit."""

from dataclasses import replace

import pytest

from tests.support.model_shapes import CONFIGS
from tuitune.memory.expected import PHASES, WORKSPACE, Batch, difference, expect, measured_settings, remedies
from tuitune.memory.families import read_shape
from tuitune.memory.plan import plan
from tuitune.memory.settings import Device, Settings

GIB = 1 << 30
SHAPE = read_shape(CONFIGS["qwen2.5-1.5b"])
SETTINGS = Settings(length=2048, batch=8, accumulation=2)
TRAIN, EVALUATION = Batch(rows=8, length=1500, tokens=12_000, scored=0.4), Batch(rows=16, length=900, tokens=14_400)


def test_the_batch_that_was_found_takes_the_place_of_what_the_recipe_allows() -> None:
    expected, made = expect(SHAPE, SETTINGS, Device(), TRAIN, None), plan(SHAPE, measured_settings(SETTINGS, TRAIN), Device())
    assert expected.peak == made.allocated < plan(SHAPE, SETTINGS, Device()).allocated
    assert expected.process == made.nvml
    assert "evaluation" not in expected.phases
    assert set(expected.phases) == {*PHASES} - {"evaluation"}


def test_each_phase_that_can_be_measured_is_the_highest_of_the_plans_own() -> None:
    expected, made = expect(SHAPE, SETTINGS, Device(), TRAIN, None), plan(SHAPE, measured_settings(SETTINGS, TRAIN), Device())
    assert expected.phases["backward"] == max(total for name, total in made.phases.items() if name.startswith(("backward", "loss")))
    assert all(sum(parts.values()) == expected.phases[name] for name, parts in expected.components.items())
    dpo = replace(SETTINGS, task="dpo", reference="shared")
    pairs = plan(SHAPE, measured_settings(dpo, TRAIN), Device())
    assert expect(SHAPE, dpo, Device(), TRAIN, None).phases["forward"] == max(pairs.phases["forward"], pairs.phases["reference"])


def test_at_the_optimizers_first_step_nothing_has_been_multiplied_yet() -> None:
    expected, made = expect(SHAPE, SETTINGS, Device(), TRAIN, None), plan(SHAPE, measured_settings(SETTINGS, TRAIN), Device())
    assert expected.phases["optimizer step"] == made.phases["optimizer step"] - 2 * Device().workspace
    assert WORKSPACE not in expected.components["optimizer step"]
    assert WORKSPACE in expected.components["forward"]


def test_an_evaluation_has_its_own_rows_and_can_be_the_peak() -> None:
    small, wide = Batch(1, 200, 200), Batch(rows=256, length=2048, tokens=256 * 2048)
    settings = replace(SETTINGS, batch=1, accumulation=1)
    expected = expect(SHAPE, settings, Device(), small, wide)
    assert expected.peak == expected.phases["evaluation"]
    assert expected.process == pytest.approx(expected.peak * 1.025 + Device().context, rel=1e-6)
    assert (
        expect(SHAPE, SETTINGS, Device(), TRAIN, EVALUATION).phases["backward"]
        == expect(SHAPE, SETTINGS, Device(), TRAIN, None).phases["backward"]
    )


def test_a_difference_is_in_per_cent_of_the_plan_and_unknown_without_one_of_both() -> None:
    assert difference(110, 100) == 10.0
    assert difference(95, 100) == -5.0
    assert difference(None, 100) is difference(100, None) is difference(100, 0) is None


@pytest.mark.parametrize("phase", ["optimizer step", "forward", "backward"])
def test_what_does_not_fit_is_advised_down_even_when_the_plan_had_said_that_it_fits(phase: str) -> None:
    settings = measured_settings(SETTINGS, TRAIN)
    for memory in (80 * GIB, 10 * GIB):  # by the plan it fits the first
        first, *_ = remedies(SHAPE, settings, Device(), memory, phase, EVALUATION)
        assert first.startswith("training.per_device_train_batch_size: ")
        assert "training.gradient_accumulation_steps: " in first


def test_an_evaluation_that_does_not_fit_costs_the_evaluations_rows_first() -> None:
    settings = measured_settings(SETTINGS, TRAIN)
    assert remedies(SHAPE, settings, Device(), 10 * GIB, "evaluation", EVALUATION) == ["training.per_device_eval_batch_size: 1"]
    alone = remedies(SHAPE, settings, Device(), 10 * GIB, "evaluation", replace(EVALUATION, rows=1))
    assert "per_device_eval_batch_size" not in alone[0]
