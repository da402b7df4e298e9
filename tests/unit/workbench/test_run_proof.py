"""The plan against what the run takes, in the memory table and the events of a run's dashboard."""

import json
from typing import Any

import pytest

from tests.support import journals
from tests.unit.workbench.test_run_memory import run_on, text_of
from tests.unit.workbench.test_run_state import from_files, state_of
from tuitune.workbench.proof_reading import read_proof
from tuitune.workbench.run_state import RunState

GIB = journals.GIB


def run_with(proof: dict[str, Any] | None, gpus: int = 1) -> RunState:
    records = [*journals.trainer_records(gpus=gpus)]
    return state_of(
        *from_files(hub=journals.hub_records(gpus=gpus, final=None), trainer_1=[records[0], *([proof] if proof else []), *records[1:]])
    )


def line_with(state: RunState, piece: str) -> str:
    return next(line for line in text_of(state, 90).splitlines() if piece in line)


def test_the_table_has_the_plan_the_proof_and_the_peak_with_their_differences() -> None:
    """The peak of the made-up run is 8.8 GiB."""
    state = run_with(journals.proof_record(planned=9.0, measured=9.2))
    assert line_with(state, "plan ") == "plan 9.0 GiB proof +2.2 %"
    assert line_with(state, "peak ") == "peak 8.8 GiB -2.2 % allocated, 9.5 GiB reserved"
    assert "!" not in text_of(state)
    lines = text_of(state).splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["plan", "peak"], "above the parts: a small table cuts its end"


def test_every_phase_and_component_stands_below_where_there_is_room() -> None:
    text = text_of(run_with(journals.proof_record()), 90)
    assert "proof of the longest batch  planned → measured" in text
    assert "the plan was calibrated by 3 runs of this box" in text
    assert line_with(run_with(journals.proof_record()), "forward").split() == "forward 7.0 GiB → 7.1 GiB +1.4 %".split()
    assert line_with(run_with(journals.proof_record()), "kernels").split()[-2:] == ["-8.4", "%"]


@pytest.mark.parametrize(
    ("planned", "measured", "said"),
    [
        (9.0, 9.2, None),
        (9.0, 9.6, "! 7 % above the plan: keep 9.6 GiB of the card free"),
        (8.0, 8.1, "! 10 % above the plan: keep 8.8 GiB of the card free"),  # the proof was right, the run's peak is higher
        (10.0, 9.6, None),  # a peak of 8.8 is 12 % below, but the longest batch takes 9.6
        (12.0, 9.6, "! the plan is 20 % too high: a larger batch may fit"),
    ],
)
def test_a_sentence_says_when_the_run_leaves_the_plan_by_more_than_five_per_cent(planned: float, measured: float, said: str | None) -> None:
    text = text_of(run_with(journals.proof_record(planned=planned, measured=measured)), 90)
    assert said in text if said else "!" not in text


def test_a_run_without_a_proof_has_a_peak_and_nothing_to_compare() -> None:
    text = text_of(run_on(1))
    assert "peak 8.8 GiB allocated, 9.5 GiB reserved" in text
    assert "plan" not in text
    assert "%" not in text


def test_a_plan_that_could_not_be_made_says_why() -> None:
    record = {
        **journals.proof_record(),
        "plan": "no memory plan for models of type strange yet",
        "allocated": {"planned": None, "measured": 9 * GIB},
    }
    state = run_with(record)
    assert line_with(state, "no plan") == "no plan: no memory plan for models of type strange yet"
    assert state.events[-1] is not None
    assert any("9.0 GiB allocated; no plan: no memory plan" in event.text for event in state.events)


def test_the_proof_is_an_event_with_its_figures() -> None:
    (event,) = [event for event in run_with(journals.proof_record()).events if event.kind == "proof"]
    assert event.text == "proof: 4 × 2,048 tokens went through a step, 9.2 GiB allocated, planned 9.0 GiB (+2.2 %)"
    assert event.step is None, "it is no mark on the charts"


def test_a_proof_on_the_cpu_has_no_figures_and_says_why() -> None:
    nothing = {"planned": None, "measured": None}
    record = {**journals.proof_record(), "plan": "the plan is about GPU memory", "measured": "on the CPU torch counts no memory"}
    record |= {"allocated": nothing, "process": nothing, "phases": [{"phase": "load", **nothing}], "components": []}
    state = run_with(record, gpus=0)
    (event,) = [event for event in state.events if event.kind == "proof"]
    assert event.text == "proof: 4 × 2,048 tokens went through a step; on the CPU torch counts no memory"
    assert "CPU run" in text_of(state)
    assert "plan" not in text_of(state)


def test_with_several_cards_the_proof_of_one_process_is_compared_with_none_of_them() -> None:
    assert "plan" not in text_of(run_with(journals.proof_record(), gpus=2))


def test_a_new_attempt_has_its_own_proof_and_an_older_ones_comes_too_late() -> None:
    first = {"src": "trainer-1", **journals.proof_record(planned=9.0)}
    second = {"src": "trainer-2", **journals.proof_record(planned=5.0)}
    begun = {"src": "trainer-2", "t": journals.START, "ev": "hello"}
    assert state_of(first, begun).proof is None
    state = state_of(first, second, first)
    assert state.proof is not None
    assert state.proof.allocated.planned == 5.0 * GIB


def test_running_out_of_memory_names_the_phase() -> None:
    state = state_of(
        {"src": "trainer-1", "t": 1.0, "ev": "oom", "step": 0, "phase": "backward"}, {"src": "trainer-1", "t": 2.0, "ev": "oom"}
    )
    assert [event.text for event in state.events] == ["GPU memory ran out (backward)", "GPU memory ran out"]


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {
            "batch": 7,
            "phases": "x",
            "components": {"a": 1},
            "allocated": [],
            "process": None,
            "seconds": "nan",
            "calibrated": -3,
            "plan": 9,
        },
        {
            "batch": {"rows": "many", "length": 1e300},
            "phases": [None, 7, {}, {"phase": 3}, {"phase": "x", "planned": "inf", "measured": True}],
        },
        {"allocated": {"planned": 0, "measured": -5}, "process": {"planned": "12", "measured": 1e30}},
        {"plan": "\x1b[31mred\x1b[0m\nline", "phases": [{"phase": "\x1b]0;title\x07", "planned": 1}] * 10_000},
    ],
)
def test_garbage_is_no_proof_and_no_harm(broken: dict[str, Any]) -> None:
    state = run_with({"t": journals.START, "ev": "proof", **json.loads(json.dumps(broken))})
    assert state.proof is not None
    assert state.proof.allocated.difference is None
    text = text_of(state)
    assert "\x1b" not in text
    assert len(read_proof(broken).phases) <= 16
