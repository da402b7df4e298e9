"""The plan against real runs: twelve configurations measured on one H200, each with its own settings (tests/support/measured.py)."""

from statistics import median
from typing import Any

import pytest

from tests.support.measured import rows, settings_of, shape_of
from tuitune.memory.plan import Plan, plan
from tuitune.memory.settings import MIB, Device
from tuitune.memory.static import adapter_bytes, model_bytes, state_bytes, trained_parameters

ROWS = {row["id"]: row for row in rows()}
WORKSPACE = 64  # MiB, cuBLAS


def planned(row: dict[str, Any]) -> Plan:
    return plan(shape_of(row), settings_of(row), Device())


def error(planned_bytes: int, measured_mib: float) -> float:
    return abs(planned_bytes / MIB / measured_mib - 1)


@pytest.mark.parametrize("name", ROWS)
def test_a_measured_run_is_planned_within_half_a_per_cent_allocated_and_three_on_the_device(name: str) -> None:
    row, made = ROWS[name], planned(ROWS[name])
    assert error(made.allocated, row["peak_alloc"]) <= 0.005
    assert error(made.nvml, row["peak_nvml"]) <= 0.03


def test_half_of_the_measured_runs_are_planned_within_a_per_cent_on_the_device() -> None:
    assert len(ROWS) == 12
    assert median(error(planned(row).nvml, row["peak_nvml"]) for row in ROWS.values()) <= 0.01


@pytest.mark.parametrize("name", ROWS)
def test_what_stays_between_steps_is_planned_to_a_few_mebibytes(name: str) -> None:
    """Each part by itself, so that errors cannot make up for each other."""
    row = ROWS[name]
    shape, settings = shape_of(row), settings_of(row)
    weights, adapter = model_bytes(shape, settings) / MIB, adapter_bytes(shape, settings) / MIB
    assert trained_parameters(shape, settings) == row["trainable"]
    assert weights == pytest.approx(row["weights_mib"], abs=1)
    assert weights + adapter == pytest.approx(row["ready_mib"], abs=1)
    states = state_bytes(shape, settings)[0] / MIB
    assert weights + adapter + states + WORKSPACE == pytest.approx(row["steps"][-1]["end_alloc"], abs=4)


def test_paged_states_are_on_the_device_and_not_in_torch() -> None:
    row = ROWS["c09"]
    outside = row["peak_nvml"] - row["peak_reserved"] - Device().context / MIB
    assert planned(row).paged / MIB == pytest.approx(outside, rel=0.01)
