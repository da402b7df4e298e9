"""Commands, samples, alarms and seams of a run's journal, and the lines that show them."""

from typing import Any

import pytest

from tests.support import journals
from tests.unit.workbench.live import NOW, running
from tests.unit.workbench.test_run_events import text_of
from tests.unit.workbench.test_run_state import from_files, state_of
from tuitune.workbench.run_reduce import reduce
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.run.events import event_line
from tuitune.workbench.views.run.header import banner, header_lines
from tuitune.workbench.views.run.queue import queue_lines
from tuitune.workbench.views.run.samples import brief_lines, sample_lines

ASKED: dict[str, Any] = {"ev": "command", "id": "a", "op": "set", "args": {"key": "learning_rate", "value": 1e-5}, "by": "ada"}
DONE: dict[str, Any] = {"ev": "applied", "id": "a", "op": "set", "step": 31, "ok": True, "error": None, "old": 1e-4, "new": 1e-5}
ALARM: dict[str, Any] = {
    "ev": "alarm",
    "kind": "divergence",
    "step": 30,
    "text": "the loss has risen by half",
    "propose": {"op": "set", "args": {"key": "learning_rate", "value": 5e-5, "kind": "scale"}},
}


def sample(step: int, text: str, **fields: Any) -> dict[str, Any]:
    return {
        "ev": "sample",
        "step": step,
        "prompt_id": "p1",
        "prompt": "Capital of France?",
        "text": text,
        "tokens": 9,
        "stopped": True,
        **fields,
    }


def test_the_queue_says_who_waits_since_when_and_what_was_done() -> None:
    waiting = {"ev": "command", "id": "b", "op": "save", "by": "bob", "t": NOW + 1}
    refused = {"ev": "applied", "id": "c", "op": "evaluate", "step": 31, "ok": False, "error": "no evaluation data", "t": NOW + 2}
    state = running(ASKED, {**DONE, "t": NOW + 0.5}, waiting, {"ev": "command", "id": "c", "op": "evaluate", "by": "ada"}, refused)
    text = text_of(queue_lines(state, NOW + 11, 120)).splitlines()
    assert text[0].startswith("… save by bob  waits for 00:10")
    assert "✗ step 31    evaluate by ada failed: no evaluation data" in text[1]
    assert "✓ step 31    learning_rate 1.00e-4 → 1.00e-5 by ada" in text[2]
    assert text[2].endswith("after 0.5 s")


def test_in_a_narrow_place_a_long_answer_goes_over_several_lines() -> None:
    state = running(ASKED, {**DONE, "ok": False, "error": "this rate is not taken because the scheduler is not ours"})
    lines = text_of(queue_lines(state, NOW, 40)).splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert "the scheduler is not ours" in " ".join(" ".join(lines).split())


def test_an_answer_that_is_read_before_its_command_still_names_who_asked() -> None:
    for order in ((ASKED, DONE), (DONE, ASKED)):
        state = running(*order)
        mark = next(event for event in state.marks() if event.kind == "applied")
        assert (mark.step, mark.words) == (31, "learning_rate 1.00e-4 → 1.00e-5 by ada")
        assert "» step 31" not in text_of([event_line(mark)])
        assert "✓ step 31     learning_rate 1.00e-4 → 1.00e-5 by ada" in text_of([event_line(mark)])


def test_a_new_batch_is_told_in_few_words_and_a_snapshot_by_its_file() -> None:
    shape = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}
    state = running(
        {"ev": "command", "id": "r", "op": "reshape", "args": shape, "by": "ada"},
        {"ev": "applied", "id": "r", "op": "reshape", "step": 30, "ok": True, "old": dict.fromkeys(shape, 4), "new": shape},
        {"ev": "command", "id": "s", "op": "snapshot", "args": {}, "by": "ada"},
        {"ev": "applied", "id": "s", "op": "snapshot", "step": 31, "ok": True, "path": "/runs/x/snapshots/step-31.pickle"},
    )
    assert state.commands["r"].outcome == "batch 4 × 4 → 2 × 8 by ada"
    assert state.commands["s"].outcome == "snapshot applied: step-31.pickle by ada"
    assert (state.setting("per_device_train_batch_size"), state.setting("gradient_accumulation_steps")) == (2, 8)


def test_what_was_just_set_is_in_force_before_a_log_says_so() -> None:
    asked = {"ev": "command", "id": "m", "op": "set", "args": {"key": "max_steps", "value": 90}}
    state = running(
        ASKED, {**DONE, "step": 30}, asked, {"ev": "applied", "id": "m", "op": "set", "step": 30, "ok": True, "old": 60, "new": 90}
    )
    assert (state.setting("learning_rate"), state.setting("max_steps"), state.max_steps) == (1e-5, 90, 90)
    reduce(state, {"src": "trainer-1", "t": NOW + 2, "ev": "metrics", "step": 31, "max_steps": 90, "learning_rate": 9e-6})
    assert state.setting("learning_rate") == 9e-6


def test_what_was_set_after_the_checkpoint_of_a_later_attempt_is_undone() -> None:
    done = {"ev": "applied", "id": "s", "op": "set", "key": "save_steps", "ok": True, "old": 25, "new": 10}
    for step, value in ((20, 10), (28, 25)):
        state = running({**done, "step": step})
        for record in ({"ev": "state", "s": "loading"}, {"ev": "seam", "attempt": 2, "step": 25, "checkpoint": "checkpoint-25"}):
            reduce(state, {"src": "trainer-2", "t": NOW + 9, **record})
        assert state.setting("save_steps") == value


def test_what_was_set_by_hand_holds_for_later_attempts_but_the_batch_is_told_by_their_ledger() -> None:
    shape = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}
    state = running(
        {"ev": "command", "id": "a", "op": "set", "args": {"key": "save_steps", "value": 10}},
        {"ev": "applied", "id": "a", "op": "set", "step": 30, "ok": True, "old": 25, "new": 10},
        {"ev": "applied", "id": "r", "op": "reshape", "step": 30, "ok": True, "old": None, "new": shape},
    )
    assert state.setting("per_device_train_batch_size") == 2
    for record in from_files(trainer_2=journals.trainer_records(40, first=26, start=journals.START + 60, caps=journals.LIVE_CAPS)):
        reduce(state, record)
    assert state.setting("save_steps") == 10
    assert state.setting("per_device_train_batch_size") is None


def test_a_command_that_nobody_answered_before_the_end_says_so() -> None:
    state = running(ASKED, {"ev": "end", "reason": "stopped", "step": 30})
    assert "was never answered" in text_of(queue_lines(state, NOW, 120))


def test_an_alarm_stands_above_the_charts_with_what_it_proposes_until_somebody_acts() -> None:
    state = running(ALARM)
    sentence, role = banner(state)
    assert sentence == ("! divergence at step 30: the loss has risen by half. Proposed: set learning_rate=5.00e-5 kind=scale (y does it).")
    assert role == "error"
    assert [event.step for event in state.marks() if event.kind == "alarm"] == [30]
    acted = running(ALARM, {**ASKED, "t": NOW + 1}, {**DONE, "t": NOW + 2})
    assert banner(acted) == ("", "")
    mark = next(event for event in acted.marks() if event.kind == "applied")
    assert mark.words.endswith("by ada (divergence at step 30)"), "the mark says why"


def test_what_the_recipe_wants_at_an_alarm_is_in_the_queue_with_who_and_why() -> None:
    order = {"ev": "applied", "id": "alarm-divergence-1", "op": "pause", "by": "tuitune", "step": 31, "ok": True, "mode": "keep"}
    state = running(ALARM, {**order, "why": "divergence: the loss has risen by half"})
    text = text_of(queue_lines(state, NOW, 120))
    assert "✓ step 31    pause applied by tuitune (divergence: the loss has risen by half)" in text
    assert "Proposed: set learning_rate" in banner(state)[0], "which is still to be done"


def test_an_alarm_without_a_proposal_is_told_all_the_same() -> None:
    assert banner(running({**ALARM, "kind": "plateau", "propose": None}))[0] == "! plateau at step 30: the loss has risen by half."


def test_a_later_attempt_says_where_it_took_over_and_what_has_changed() -> None:
    first = from_files(trainer_1=journals.trainer_records(40, max_steps=60))
    seam = {
        "src": "trainer-2",
        "t": NOW,
        "ev": "seam",
        "attempt": 2,
        "step": 25,
        "checkpoint": "checkpoint-25",
        "changed": ["transformers 5.23 → 5.24"],
    }
    state = state_of(*first, {"src": "trainer-2", "t": NOW, "ev": "state", "s": "loading", "step": 25}, seam)
    assert "attempt 2 from step 25" in text_of(header_lines(state, NOW, 120))
    border = next(event for event in state.marks() if event.kind == "seam")
    assert (border.step, border.words) == (25, "attempt 2 from step 25; transformers 5.23 → 5.24")
    more = from_files(trainer_2=journals.trainer_records(60, first=26, start=journals.START + 60, max_steps=60))
    state = state_of(*first, *more)
    assert [event.step for event in state.marks() if event.kind == "seam"] == [25], "an older trainer tells no seam: its first step does"


def test_why_the_hub_tries_again_is_said_while_the_next_attempt_loads() -> None:
    first = from_files(trainer_1=journals.trainer_records(40, max_steps=60))
    why = "out of memory: again with half the batch"
    again: list[dict[str, Any]] = [
        {"src": "trainer-2", "t": NOW + 99, "ev": "state", "s": "loading", "step": 25},
        {"src": "hub", "t": NOW + 99, "ev": "state", "s": "starting", "why": why},
    ]
    assert banner(state_of(*first, *again)) == (f"↻ {why}", "warn")


def test_states_that_wait_have_signs_and_a_hung_run_says_what_to_do() -> None:
    for name, sign in (("paused", "‖"), ("suspended", "○"), ("hung", "!")):
        state = running({"ev": "state", "s": name, "step": 30, "why": "no step for 90 s"})
        assert f"{sign} {name}" in text_of(header_lines(state, NOW, 100))
        assert "no step for 90 s" in banner(state)[0]


def answers() -> RunState:
    return running(
        sample(10, "Paris Paris Paris", base="The capital\nis Paris.", repetition=0.6, stopped=False, t=NOW),
        sample(20, "Paris.\x1b[2J", repetition=0.0, tok_s=31.0, t=NOW + 1),
    )


def test_the_newest_answer_stands_beside_the_base_models_with_its_meters_and_the_earlier_ones_below() -> None:
    text = text_of(sample_lines(answers(), 100)).splitlines()
    assert text[0] == "Capital of France?"
    assert text[1].startswith("base model")
    assert "│ step 20  ✓ repeats   0%  31 tok/s" in text[1], "half of 100 cells is too little for the whole meter"
    wide = text_of(sample_lines(answers(), 160)).splitlines()
    assert "│ step 20  ✓ ended after 9 tokens  ········ repeats 0%  31 tok/s" in wide[1]
    assert text[2].split(" │ ")[1] == "Paris.␛[2J", "an answer cannot drive the terminal"
    assert text[-1] == "  step 10    ! repeats  60%  Paris Paris Paris"


def test_in_a_narrow_place_the_two_answers_stand_below_each_other() -> None:
    text = text_of(sample_lines(answers(), 50)).splitlines()
    assert text[1:4] == ["base model", "The capital", "is Paris."]
    assert "step 20  ✓ repeats   0%  31 tok/s" in text


def test_in_the_panel_each_prompt_has_one_line() -> None:
    lines = text_of(brief_lines(answers(), 120)).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("step 20")
    assert lines[0].endswith("Capital of France?  Paris.␛[2J")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"micro": 4, "phase": "backward", "retry": "2 × 4 rows", "peak": 8 * journals.GIB},
            "GPU memory ran out (backward), at 8.0 GiB, micro-batch 4 of its update, done again: 2 × 4 rows",
        ),
        (
            {"micro": None, "phase": "optimizer step", "retry": "the step", "peak": None},
            "memory ran out (optimizer step), done again: the step",
        ),
        ({"micro": 1, "retry": None, "why": "one row"}, "GPU memory ran out, micro-batch 1 of its update, not done again: one row"),
        ({"retry": 2, "micro": "x", "peak": "much"}, "memory ran out"),
    ],
)
def test_a_memory_error_says_what_the_trainer_did_about_it(fields: dict[str, object], words: str) -> None:
    state = running({"ev": "oom", "step": 31, **fields})
    assert state.events[-1].words.startswith(words)


def test_a_probe_is_a_curve_of_each_skill() -> None:
    state = running({"ev": "probe", "step": 0, "metrics": {"forgetting/code": 1.25}}, {"ev": "probe", "step": 50, "metrics": None})
    assert state.value("forgetting/code") == 1.25
