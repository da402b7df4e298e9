"""What each step of a repaired copy makes of a row."""

from datetime import date, datetime
from typing import Any

import pytest

from tuitune.preflight.data_steps import STEPS, columns_after

TALK = {"messages": "talk"}
ASKED = {"user": "question", "assistant": "answer", "system": "system"}


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


@pytest.mark.parametrize(
    ("step", "columns", "options", "before", "after"),
    [
        ("as-text", ASKED, {}, {"question": 3, "answer": 0.5, "id": 7}, {"question": "3", "answer": "0.5", "id": 7}),
        ("as-text", ASKED, {}, {"question": "x", "answer": True}, {"question": "x", "answer": "true"}),
        ("as-text", ASKED, {}, {"question": date(2024, 1, 2), "answer": None}, {"question": "2024-01-02", "answer": None}),
        ("as-text", ASKED, {"dates": True}, {"question": "x", "answer": datetime(2024, 1, 2)}, {"question": "x", "answer": "2024-01-02"}),
        ("as-text", TALK, {}, {"talk": [turn("user", 4), turn("assistant", "y")]}, {"talk": [turn("user", "4"), turn("assistant", "y")]}),
        ("roles", TALK, {}, {"talk": [{"from": "human", "value": "x"}]}, {"talk": [turn("user", "x")]}),
        ("roles", TALK, {}, {"talk": [turn("Gpt", "x"), turn("User ", "y")]}, {"talk": [turn("assistant", "x"), turn("user", "y")]}),
        ("null-content", TALK, {}, {"talk": [turn("assistant", None, tool_calls=[1])]}, {"talk": [turn("assistant", "", tool_calls=[1])]}),
        ("null-content", TALK, {}, {"talk": [{"role": "assistant"}]}, {"talk": [turn("assistant", "")]}),
        ("system-into-user", TALK, {}, {"talk": [turn("system", "S"), turn("user", "x")]}, {"talk": [turn("user", "S\n\nx")]}),
        ("system-into-user", TALK, {}, {"talk": [turn("user", "x")]}, {"talk": [turn("user", "x")]}),
        ("system-into-user", ASKED, {}, {"system": "S", "question": "x"}, {"system": "", "question": "S\n\nx"}),
        (
            "system-into-user",
            {**TALK, "system": "persona"},
            {},
            {"persona": "S", "talk": [turn("user", "x")]},
            {"persona": "", "talk": [turn("user", "S\n\nx")]},
        ),
        ("merge-turns", TALK, {}, {"talk": [turn("user", "a"), turn("user", "b")]}, {"talk": [turn("user", "a\n\nb")]}),
        ("merge-turns", TALK, {}, {"talk": [turn("tool", "1"), turn("tool", "2")]}, {"talk": [turn("tool", "1"), turn("tool", "2")]}),
        ("strip-bos", {"text": "t"}, {"bos": "<s>"}, {"t": "<s><s>x", "u": "<s>"}, {"t": "<s>x", "u": "<s>"}),
        ("pin-date", TALK, {"date": "1 May 2026"}, {"talk": []}, {"talk": [], "chat_template_kwargs": {"date_string": "1 May 2026"}}),
        ("pin-date", {"chat_template_kwargs": "k"}, {"date": "x"}, {"k": {"a": 1}}, {"k": {"a": 1, "date_string": "x"}}),
    ],
)
def test_a_step_makes_of_a_row(
    step: str, columns: dict[str, str], options: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> None:
    was = repr(before)
    assert STEPS[step](before, columns, options) == [after]
    assert repr(before) == was, "the row that came in is untouched"


def test_reasoning_is_split_into_one_row_for_each_answer() -> None:
    talk = [turn("user", "a"), turn("assistant", "<think>1</think>b"), turn("user", "c"), turn("assistant", "<think>2</think>d")]
    rows = STEPS["split-reasoning"]({"talk": talk, "tools": "[]"}, TALK, {})
    assert rows == [
        {"tools": "[]", "prompt": talk[:1], "completion": [talk[1]]},
        {"tools": "[]", "prompt": talk[:3], "completion": [talk[3]]},
    ]


def test_columns_follow_what_the_steps_made() -> None:
    assert columns_after(TALK, ("as-text",), written=True) is None
    assert columns_after(TALK, ("pin-date",), written=True) == {**TALK, "chat_template_kwargs": "chat_template_kwargs"}
    assert columns_after(TALK, ("pin-date",), written=False) is None, "found by their names"
    split = columns_after({**TALK, "tools": "functions"}, ("split-reasoning",), written=False)
    assert split == {"prompt": "prompt", "completion": "completion", "tools": "functions"}
