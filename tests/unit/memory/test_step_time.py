"""Seconds a step: against runs recorded on an H200, by this box's own runs, and where nobody knows."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.bench.vram import write_recipe
from tests.support import measured
from tests.support.counted import FakeCount
from tests.support.model_shapes import CONFIGS
from tests.unit.memory.test_own_measurements import ROWS
from tests.unit.memory.test_planning import FULL, look_at, write
from tuitune.memory.calibration import Box, Measured, keep_measured, read_calibration
from tuitune.memory.families import read_shape
from tuitune.memory.pace import Pace, keep_pace, key_of, read_pace
from tuitune.memory.report import document
from tuitune.memory.settings import Settings
from tuitune.memory.shape import Shape
from tuitune.memory.step_time import StepTime, active_weights, flops, step_time, words
from tuitune.memory.unknown import shape_of
from tuitune.planning import read_recipe
from tuitune.preflight.cards import parse_card
from tuitune.trainer import pace as stopwatch

SHAPE = read_shape(CONFIGS["llama3.1-8b"])
LORA = Settings(length=2048, batch=4, accumulation=4)
BOX = Box("NVIDIA H200", "580.1", "2.11.0")


def recorded(folder: Path) -> list[tuple[Shape, Settings, float]]:
    """Shape, settings and seconds a step of every recorded run. The first is left out; of our own, whose rows have two lengths, the fastest
    of the three others stands: kernels are compiled at the first sight of a length."""
    found = [(measured.shape_of(row), measured.settings_of(row), median(step["s"] for step in row["steps"][1:])) for row in measured.rows()]
    for number, row in enumerate(ROWS):
        place = folder / str(number)
        (place / "model").mkdir(parents=True)
        (place / "model" / "config.json").write_text(json.dumps(CONFIGS[row["model"]]))
        planned = read_recipe(write_recipe(row, place / "model", place / "run", rows=2), parse_card("H200"))
        found.append((planned.shape, planned.settings, min(step["s"] for step in row["steps"][1:])))
    return found


def test_nine_in_ten_runs_of_an_h200_took_what_is_said(tmp_path: Path) -> None:
    runs = recorded(tmp_path)
    said = [step_time(shape, settings, "H200", None) for shape, settings, _ in runs]
    inside = [time is not None and time.low <= seconds <= time.high for time, (_, _, seconds) in zip(said, runs, strict=True)]
    assert sum(inside) >= 0.9 * len(runs)
    assert all(time is not None and time.high < 4.5 * time.low for time in said)


def test_the_arithmetic_is_two_for_a_weight_and_token_and_pass() -> None:
    active = active_weights(SHAPE)
    assert active == SHAPE.all_linear_weights
    bare = replace(LORA, checkpoint_every=0, loss="none")
    attention = 2 * 8192 * 2048 * SHAPE.query_width * SHAPE.layers
    assert flops(SHAPE, bare, active, 8192, 2048) == 2 * (2 * active * 8192 + attention) + attention
    again = flops(SHAPE, replace(bare, checkpoint_every=1), active, 8192, 2048) - flops(SHAPE, bare, active, 8192, 2048)
    assert again == 2 * active * 8192 + attention
    assert flops(SHAPE, replace(bare, lora=False), active, 8192, 2048) - flops(SHAPE, bare, active, 8192, 2048) == 2 * active * 8192


def test_a_mixture_s_token_goes_through_the_experts_that_are_used() -> None:
    shape = read_shape(CONFIGS["mixtral-small"])
    assert shape.experts is not None
    assert (
        active_weights(shape) == shape.all_linear_weights + shape.layers * shape.expert_weights * shape.experts.used // shape.experts.count
    )


@pytest.mark.parametrize(
    ("slower", "faster"),
    [
        (replace(LORA, accumulation=8), LORA),
        (LORA, replace(LORA, checkpoint_every=0)),
        (replace(LORA, weights="nf4"), LORA),
        (replace(LORA, task="dpo", reference="shared"), LORA),
        (replace(LORA, length=4096), LORA),
    ],
)
def test_what_takes_longer_is_said_to(slower: Settings, faster: Settings) -> None:
    long, short = step_time(SHAPE, slower, "L4", None), step_time(SHAPE, faster, "L4", None)
    assert long is not None and short is not None  # noqa: PT018
    assert (long.low > short.low, long.high > short.high) == (True, True)


def test_a_slower_card_takes_longer_and_an_unknown_one_gets_no_number() -> None:
    slow, fast = step_time(SHAPE, LORA, "NVIDIA L4", None), step_time(SHAPE, LORA, "NVIDIA H100 80GB HBM3", None)
    assert slow is not None and fast is not None and slow.low > fast.high  # noqa: PT018
    assert step_time(SHAPE, LORA, "Radeon", None) is None
    assert step_time(SHAPE, LORA, "P100", None) is None
    assert step_time(SHAPE, LORA, None, None) is None


def test_experts_of_a_family_without_a_formula_leave_no_number() -> None:
    from tuitune.memory.measured import as_json, way_of

    found = FakeCount()({"folder": "", "ways": [as_json(way_of(LORA, False))]})
    assert step_time(shape_of(found), LORA, "H200", None) is not None
    found["measured"]["tensors"] = [[512 * 2048 * 8, 4]]
    assert step_time(shape_of(found), LORA, "H200", None) is None


def test_the_mean_of_the_data_counts_where_it_is_known() -> None:
    known, unknown = step_time(SHAPE, LORA, "L4", None, mean=512.0), step_time(SHAPE, LORA, "L4", None)
    assert known is not None and unknown is not None  # noqa: PT018
    assert known.high < 0.4 * unknown.high
    assert "rows as long as the longest" in unknown.basis
    assert "rows as long" not in known.basis


# This box's own runs


def test_runs_of_this_box_stand_above_arithmetic(tmp_path: Path) -> None:
    file, key = tmp_path / "calibration.json", key_of(SHAPE, LORA)
    for number, seconds in enumerate((0.3, 0.25, 0.5)):
        keep_pace(BOX, f"run-{number}", key, seconds, file)
    pace = read_pace(BOX, key, file)
    assert pace == Pace(0.3, 0.25, 0.5, 3)
    assert step_time(SHAPE, LORA, "NVIDIA H200", pace, steps=100) == StepTime(1.0, 2.0, 3, "3 runs on this box", 100)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (replace(LORA, accumulation=8), True),
        (replace(LORA, eval_batch=4, sums=(2048, 3000)), True),
        (replace(LORA, batch=8), False),
        (replace(LORA, length=1024), False),
        (replace(LORA, weights="nf4"), False),
        (replace(LORA, checkpoint_every=2), False),
        (replace(LORA, targets=("q_proj",)), False),
    ],
)
def test_the_pace_of_a_run_is_that_of_the_same_model_method_and_micro_batch(other: Settings, same: bool) -> None:
    assert (key_of(SHAPE, LORA) == key_of(SHAPE, other)) == same
    assert key_of(SHAPE, LORA) != key_of(read_shape(CONFIGS["qwen3-8b"]), LORA)


def test_pace_and_memory_share_a_file_and_leave_each_other_alone(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    keep_measured(BOX, "run", Measured(700 << 20, 0.02), file)
    keep_pace(BOX, "run", "key", 0.3, file)
    keep_measured(BOX, "other", Measured(700 << 20, 0.02), file)
    assert read_pace(BOX, "key", file) == Pace(0.3, 0.3, 0.3, 1)
    found = read_calibration(BOX, file)
    assert found is not None
    assert found.runs == 2


NOT_TRUE = ({"key": 1, "seconds": 1.0}, {"key": "key", "seconds": -1.0}, {"key": "key"}, 3)


@pytest.mark.parametrize("broken", [3, [], *({"x": entry} for entry in NOT_TRUE)])
def test_a_pace_that_cannot_be_true_is_passed_over(broken: Any, tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps({"schema": 1, "boxes": {}, "paces": {BOX.key: broken}}))
    assert read_pace(BOX, "key", file) is None
    keep_pace(BOX, "run", "key", float("inf"), file)
    assert read_pace(BOX, "key", file) is None
    keep_pace(BOX, "run", "key", 0.5, file)
    assert read_pace(BOX, "key", file) == Pace(0.5, 0.5, 0.5, 1)


def test_a_run_s_pace_is_the_median_of_its_steady_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 9.0, 10.0, 15.0, *(value for start in range(20, 60, 10) for value in (start, start + 1.0)), 70.0, 99.0])
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: next(clock))
    pace = stopwatch.Pace()
    pace.end()  # a step that nobody saw begin
    for number in range(7):
        assert pace.seconds is None, number
        pace.begin()
        pace.end()
    assert pace.seconds == 1.0


# What is said


def test_a_duration_is_said_as_people_say_it() -> None:
    assert (
        words(StepTime(1.2, 1.2, 3, "3 runs on this box", 2050)) == "about 1.2 s a step, 41 min in all for 2,050 steps (3 runs on this box)"
    )
    assert words(StepTime(0.5, 12.0, 0, "arithmetic")) == "about 0.5 s to 12 s a step (arithmetic)"
    assert "20.0 h in all" in words(StepTime(72.0, 72.0, 1, "1 run on this box", 1000))


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        ("{}", 3 * 13),
        ("{max_steps: 7}", 7),
        ("{gradient_accumulation_steps: 4}", 3 * 4),
        ("{num_train_epochs: 0.5}", 7),
        ("{dataloader_drop_last: true}", 3 * 12),
    ],
)
def test_the_steps_of_a_run_follow_from_the_data(training: str, steps: int, tmp_path: Path) -> None:
    path = write(tmp_path, FULL + f"training: {training}\n")
    assert read_recipe(path, None).steps == (7 if "max_steps" in training else None)
    look_at(path, 500)
    assert read_recipe(path, parse_card("H200")).steps == steps


def test_the_document_has_it_and_says_null_where_nobody_knows(tmp_path: Path) -> None:
    path = write(tmp_path, FULL)
    time = document(read_recipe(path, parse_card("H200")))["seconds_per_step"]
    assert time["low"] < time["high"]
    assert (time["runs"], time["steps"]) == (0, None)
    assert document(read_recipe(path, None))["seconds_per_step"] is None
