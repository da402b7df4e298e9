"""What was set by hand and is in no checkpoint is told when an attempt goes on without it."""

from typing import Any

import pytest

from tests.support.living_hub import RECIPE
from tuitune.bus.journal import Journal
from tuitune.hub.unsaved import unsaved_settings
from tuitune.runs.directory import RunDirectory, create_run


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return create_run(tmp_path, "demo", RECIPE)


def applied(step: int, op: str = "set", **more: Any) -> dict[str, Any]:
    told = {"key": "learning_rate", "old": 0.0002, "new": 0.0001} if op == "set" else {}
    return {"id": f"{op}-{step}", "op": op, "by": "ada", "step": step, "ok": True, "error": None, **told, **more}


def lost(run: RunDirectory, step: int, *records: dict[str, Any]) -> list[str]:
    journal = Journal(run.journal / "trainer-1.jsonl")
    for record in records:
        journal.emit("applied", **record)
    journal.close()
    return unsaved_settings(run, 1, step)


def test_a_setting_after_the_checkpoint_is_told_and_one_before_it_is_not(run: RunDirectory) -> None:
    assert lost(run, 10, applied(9), applied(12, key="max_steps", old=60, new=80)) == ["max_steps 60 → 80 (set by ada at step 12)"]


def test_from_the_beginning_all_are(run: RunDirectory) -> None:
    assert lost(run, 0, applied(1), applied(2, by="")) == [
        "learning_rate 0.0002 → 0.0001 (set by ada at step 1)",
        "learning_rate 0.0002 → 0.0001 (set at step 2)",
    ]


def test_what_was_refused_and_what_is_no_setting_are_not(run: RunDirectory) -> None:
    assert (
        lost(run, 5, applied(7, ok=False, error="no"), applied(7, "save"), applied(8, "pause", mode="keep"), applied(8, "evaluate")) == []
    )


@pytest.mark.parametrize(
    ("op", "more", "kept"),
    [
        ("save", {}, True),
        ("stop", {}, True),
        ("reshape", {}, True),
        ("pause", {"mode": "suspend"}, True),
        ("pause", {"mode": "keep"}, False),
    ],
)
def test_of_the_same_step_it_is_kept_when_a_later_command_saved(run: RunDirectory, op: str, more: dict[str, Any], kept: bool) -> None:
    assert (lost(run, 10, applied(10), applied(10, op, **more)) == []) is kept


def test_a_setting_that_came_after_that_command_is_lost(run: RunDirectory) -> None:
    assert len(lost(run, 10, applied(10, "save"), applied(10))) == 1


def test_an_attempt_that_never_had_a_journal_has_lost_nothing(run: RunDirectory) -> None:
    assert unsaved_settings(run, 7, 0) == []
