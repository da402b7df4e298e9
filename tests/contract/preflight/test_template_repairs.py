"""Automatic repairs of the template's checks, by a real training step: before it the run fails or trains other rows, then no more."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import transformers.utils.chat_template_utils as transformers_templates

from tests.support import templates as t
from tests.support.first_step import built, first_step
from tests.support.planted import check, finding, plant
from tests.support.templates import having, talks, template_of
from tuitune.errors import UserError
from tuitune.preflight import report as report_module

ROWS = talks(("user", "How much is {n}?"), ("assistant", "It is {n} and no more."))
MISNAMED = talks(("Human", "How much is {n}?"), ("GPT", "It is {n} and no more."))


def test_with_roles_that_the_template_knows_there_is_something_to_learn(tmp_path: Path, tiny_model: Path) -> None:
    change = having(template_of("qwen3"))
    place = plant(tmp_path, model=tiny_model, change=change, rows=MISNAMED)
    with pytest.raises(UserError, match="none of the 24 rows is left to learn from"):
        built(place.recipe)
    fixed = report_module.fix(place.recipe, check(place.recipe))
    assert fixed is not None
    assert [file.name for file in fixed.files] == ["train.fixed.jsonl", "train.fixed.report.json"]
    assert first_step(place.recipe)["train_loss"] > 0


def ids_on(day: datetime, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Then":
            return cls(day.year, day.month, day.day)

    with monkeypatch.context() as patched:
        patched.setattr(transformers_templates, "datetime", Then)
        return [list(ids) for ids in built(recipe).trainer.train_dataset["input_ids"]]


def test_with_a_pinned_date_tomorrows_rows_are_todays(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = plant(tmp_path, model=tiny_model, change=having(t.DATED), rows=ROWS)
    days = datetime(2026, 11, 27), datetime(2027, 1, 9)
    first, later = (ids_on(day, place.recipe, monkeypatch) for day in days)
    assert first != later
    found = check(place.recipe)
    assert finding(found, "TPL15").fix is not None
    report_module.fix(place.recipe, found)
    first, later = (ids_on(day, place.recipe, monkeypatch) for day in days)
    assert first == later
    assert first_step(place.recipe)["train_loss"] > 0
