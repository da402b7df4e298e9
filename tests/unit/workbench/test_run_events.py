"""The events tab and the effective config as rows of text."""

import json
from pathlib import Path

from tests.support import journals
from tests.unit.workbench.test_run_state import from_files, state_of
from tuitune.workbench.parts.role_lines import Line
from tuitune.workbench.views.run.events import config_lines, event_line, traceback_lines, value_text


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(text for text, _ in line) for line in lines)


def ledger(path: Path) -> Path:
    entries = [dict(zip(("section", "key", "value", "source", "line", "why"), row)) for row in journals.LEDGER]
    path.write_text(json.dumps({"schema": 1, "values": entries}))
    return path


def test_each_event_has_its_step_and_a_sign_that_does_not_need_colour() -> None:
    state = state_of(*from_files(hub=journals.hub_records(), trainer_1=journals.trainer_records()))
    text = text_of([event_line(event) for event in state.events])
    for piece in ("◆ step 25", "checkpoint checkpoint-25, 37.2 MiB, 0.2 s", "◇ step 20", "evaluated: eval_loss", "■", "ended: done"):
        assert piece in text


def test_it_is_told_which_micro_batches_are_being_measured_and_which_were_taken() -> None:
    records = [*journals.trainer_records()]
    measuring = {"t": journals.START, "ev": "state", "s": "loading", "why": "measuring 3 of 5: 4 × 2 rows"}
    taken = {"t": journals.START, "ev": "split", "why": "measured: 0.41 s an update in 4 × 2 rows; 1 × 8 rows 0.53 s"}
    state = state_of(*from_files(trainer_1=[records[0], measuring, taken, *records[1:]]))
    text = text_of([event_line(event) for event in state.events])
    assert "loading: measuring 3 of 5: 4 × 2 rows" in text
    assert "micro-batches measured: 0.41 s an update in 4 × 2 rows; 1 × 8 rows 0.53 s" in text


def test_a_crash_shows_its_traceback() -> None:
    state = state_of(*from_files(hub=journals.hub_records(final="crash")))
    assert "torch.OutOfMemoryError" in text_of(traceback_lines(state))
    assert traceback_lines(state_of(*from_files(hub=journals.hub_records()))) == []


def test_the_config_says_what_was_decided_by_whom_before_the_defaults(tmp_path: Path) -> None:
    lines = text_of(config_lines(ledger(tmp_path / "effective.json"))).splitlines()
    decided = [index for index, line in enumerate(lines) if " default" not in line]
    assert decided == list(range(len(decided)))
    adjusted = next(line for line in lines if "use_cpu" in line)
    assert "true" in adjusted
    assert "adjusted" in adjusted
    assert "no NVIDIA GPU on this box" in adjusted
    assert any("training.learning_rate" in line and "line 8" in line for line in lines)


def test_before_the_ledger_is_there_or_when_it_is_broken_a_sentence_stands_for_it(tmp_path: Path) -> None:
    assert "not written its effective config yet" in text_of(config_lines(tmp_path / "effective.json"))
    (tmp_path / "effective.json").write_text("{")
    assert "damaged" in text_of(config_lines(tmp_path / "effective.json"))


def test_values_look_as_in_a_recipe_and_cannot_drive_the_terminal() -> None:
    assert [value_text(value) for value in (True, None, 2e-4, ["q_proj"], "a\x1b[2J")] == ["true", "null", "0.0002", '["q_proj"]', "a␛[2J"]
