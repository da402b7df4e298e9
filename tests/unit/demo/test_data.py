"""The demo's data teach one thing that anybody can check, and the held-out rows are really held out."""

import json
from difflib import SequenceMatcher
from importlib.resources import files
from itertools import combinations

import pytest

from tuitune.demo.headless import QUESTIONS

BEGINNING, END = "Captain's log: ", " Fair winds!"


def rows(name: str) -> list[dict[str, str]]:
    text = (files("tuitune.demo") / "data" / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


TRAIN, TEST = rows("train.jsonl"), rows("test.jsonl")


def test_there_are_some_hundred_rows_and_24_held_out() -> None:
    assert len(TRAIN) >= 300
    assert len(TEST) == 24


@pytest.mark.parametrize("data", [TRAIN, TEST], ids=["train", "test"])
def test_every_answer_is_a_short_log_entry(data: list[dict[str, str]]) -> None:
    for row in data:
        assert set(row) == {"question", "answer"}
        assert row["answer"].startswith(BEGINNING)
        assert row["answer"].endswith(END)
        said = row["answer"].removeprefix(BEGINNING).removesuffix(END)
        assert 4 < len(said) < 200
        assert said[-1] in ".!?"
        assert BEGINNING.strip() not in said
        assert row["question"][-1] in "?."


def test_no_two_rows_ask_or_answer_the_same() -> None:
    questions = [row["question"].lower() for row in TRAIN + TEST]
    assert len(set(questions)) == len(questions)
    answers = [row["answer"].removeprefix(BEGINNING).removesuffix(END) for row in TRAIN + TEST]
    for one, other in combinations(answers, 2):
        if min(len(one), len(other)) > 40:
            matcher = SequenceMatcher(None, one, other, autojunk=False)
            assert matcher.real_quick_ratio() < 0.85 or matcher.quick_ratio() < 0.85 or matcher.ratio() < 0.85, (one, other)


def test_the_questions_shown_before_and_after_are_not_trained_on() -> None:
    assert set(QUESTIONS) <= {row["question"] for row in TEST}
    assert not set(QUESTIONS) & {row["question"] for row in TRAIN}
