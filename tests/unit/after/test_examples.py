"""Rows of an evaluation: what is asked, what is right, what there is to choose from."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tuitune.after.examples import Example, examples
from tuitune.errors import UserError


def read(folder: Path, *rows: dict[str, Any], columns: dict[str, str] | None = None, **source: Any) -> list[Example]:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return examples([{"path": str(folder / "rows.jsonl"), **({"columns": columns} if columns else {}), **source}])


def test_a_question_is_asked_and_its_answer_is_gold(tmp_path: Path) -> None:
    (one,) = read(tmp_path, {"question": "2 + 2?", "answer": "4"})
    assert (one.prompt, one.gold, one.line) == ([{"role": "user", "content": "2 + 2?"}], "4", 1)
    assert one.row["completion"] == [{"role": "assistant", "content": "4"}]
    assert one.asked


def test_of_a_conversation_the_last_answer_is_gold(tmp_path: Path) -> None:
    turns = [{"role": role, "content": content} for role, content in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))]
    (one,) = read(tmp_path, {"messages": turns})
    assert (one.prompt, one.gold, one.row) == (turns[:3], "d", {"messages": turns})


def test_plain_text_and_calls_of_tools_have_a_loss_but_no_answer_to_compare(tmp_path: Path) -> None:
    (text,) = read(tmp_path, {"text": "the cat sat"})
    assert (text.prompt, text.asked) == (None, False)
    call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}
    (called,) = read(tmp_path, {"messages": [{"role": "user", "content": "a"}, call]})
    assert (called.gold, called.asked) == (None, False)


def test_of_a_preference_the_chosen_answer_is_gold_and_the_two_are_a_choice(tmp_path: Path) -> None:
    (one,) = read(tmp_path, {"prompt": "2 + 2 = ", "chosen": "4", "rejected": "5"})
    assert (one.gold, one.right, [choice["completion"] for choice in one.choices]) == ("4", 0, ["4", "5"])
    talk = [{"role": "user", "content": "2 + 2?"}]
    pair = {name: [*talk, {"role": "assistant", "content": text}] for name, text in (("chosen", "4"), ("rejected", "5"))}
    (one,) = read(tmp_path, pair)
    assert (one.prompt, one.gold) == (talk, "4")


def test_what_must_not_be_said_is_no_gold(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": text, "label": label} for text, label in (("good", True), ("bad", False))]
    found = read(tmp_path, *rows, columns={"prompt": "prompt", "completion": "completion", "label": "label"})
    assert [one.gold for one in found] == ["good"]


@pytest.mark.parametrize(
    ("choices", "label", "gold"),
    [
        (["red", "blue"], 1, "blue"),
        (["red", "blue"], "0", "red"),
        (["red", "blue"], "B", "blue"),
        (["red", "blue"], "red", "red"),
        ({"text": ["red", "blue"], "label": ["1", "2"]}, "2", "blue"),
    ],
)
def test_the_right_choice_is_named_by_number_letter_or_text(tmp_path: Path, choices: Any, label: Any, gold: str) -> None:
    columns = {"user": "question", "choices": "options", "label": "key"}
    (one,) = read(tmp_path, {"question": "colour?", "options": choices, "key": label}, columns=columns)
    assert one.gold == gold
    assert one.right is not None
    assert [choice["completion"][0]["content"] for choice in one.choices] == ["red", "blue"]
    assert one.row == one.choices[one.right]


@pytest.mark.parametrize(
    ("row", "columns", "words"),
    [
        (
            {"q": "a", "c": ["x", "y"], "k": 2},
            {"user": "q", "choices": "c", "label": "k"},
            ":1: label is 2, which names none of the 2 choices",
        ),
        ({"q": "a", "c": ["x"], "k": 0}, {"user": "q", "choices": "c", "label": "k"}, "a list of at least two texts is needed"),
        ({"q": "a", "c": ["x", "y"]}, {"user": "q", "choices": "c"}, "add label=COLUMN to --columns"),
    ],
)
def test_a_row_that_names_no_choice_says_where_it_is(tmp_path: Path, row: dict[str, Any], columns: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        read(tmp_path, row, columns=columns)


def test_so_many_rows_of_all_sources_and_max_rows_of_each(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"a{number}"}) + "\n" for number in range(5)))
    source = {"path": str(tmp_path / "a.jsonl"), "max_rows": 2}
    assert [one.row["text"] for one in examples([source, source], 3)] == ["a0", "a1", "a0"]
