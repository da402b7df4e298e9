"""A row's own columns become the shapes TRL trains on; what does not fit is named by file and line."""

from typing import Any

import pytest

from tuitune.dataset.columns import convert, guess_columns, mapping_for
from tuitune.dataset.sources import Row
from tuitune.errors import UserError


def row(**data: Any) -> Row:
    return Row(data, "data.jsonl", 7)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def made(**data: Any) -> dict[str, Any]:
    """The row converted with the columns its names ask for."""
    return convert(row(**data), mapping_for(row(**data), None))


def test_gsm8k_becomes_a_conversation_that_trains_on_the_answer() -> None:
    assert made(question="1+1?", answer="2") == {"prompt": [turn("user", "1+1?")], "completion": [turn("assistant", "2")]}


def test_alpaca_puts_the_input_under_the_instruction_and_leaves_an_empty_one_out() -> None:
    assert made(instruction="Add", input="1, 2", output="3")["prompt"] == [turn("user", "Add\n\n1, 2")]
    assert made(instruction="Hi", input="", output="Hello")["prompt"] == [turn("user", "Hi")]


def test_sharegpt_roles_get_their_usual_names() -> None:
    talk = [{"from": "system", "value": "s"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    assert made(conversations=talk) == {"messages": [turn("system", "s"), turn("user", "a"), turn("assistant", "b")]}


def test_a_system_column_beside_the_turns_goes_in_front_once() -> None:
    assert made(conversations=[{"from": "human", "value": "a"}], system="s")["messages"][0] == turn("system", "s")
    own = [turn("system", "mine"), turn("user", "a")]
    assert made(messages=own, system="s")["messages"] == own
    assert made(question="a", answer="b", system="s")["prompt"] == [turn("system", "s"), turn("user", "a")]
    assert made(question="a", answer="b", system="")["prompt"] == [turn("user", "a")]


def test_messages_keep_tool_calls_and_the_tools_beside_them() -> None:
    calls = [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]
    messages = [turn("user", "a"), {"role": "assistant", "content": None, "tool_calls": calls}]
    made_row = made(messages=messages, tools=[{"name": "f"}], id=3)
    assert made_row == {
        "messages": [turn("user", "a"), {"role": "assistant", "content": "", "tool_calls": calls}],
        "tools": [{"name": "f"}],
    }


def test_raw_strings_stay_raw_and_lists_of_turns_stay_turns() -> None:
    assert made(prompt="a", completion="b", other=1) == {"prompt": "a", "completion": "b"}
    assert made(text="abc") == {"text": "abc"}
    talk = {"prompt": [turn("user", "a")], "completion": [turn("assistant", "b")]}
    assert made(**talk) == talk


def test_preferences_are_strings_or_turns() -> None:
    assert made(prompt="q", chosen="a", rejected="b", score=1) == {"prompt": "q", "chosen": "a", "rejected": "b"}
    assert made(chosen=[turn("assistant", "a")], rejected=[turn("assistant", "b")])["chosen"] == [turn("assistant", "a")]


def test_a_label_column_of_any_name_goes_along() -> None:
    columns = {"prompt": "q", "completion": "a", "label": "good"}
    assert convert(row(q="x", a="y", good=True), columns) == {"prompt": "x", "completion": "y", "label": True}
    assert convert(row(q="x", a="y", good=False), columns)["label"] is False


def test_numbers_are_text_where_text_is_wanted() -> None:
    assert made(question=5, answer=2.5)["completion"] == [turn("assistant", "2.5")]


def test_reasoning_stands_beside_the_answer() -> None:
    columns = {"user": "q", "assistant": "a", "reasoning": "why"}
    assert convert(row(q="x", a="y", why="z"), columns)["completion"] == [{**turn("assistant", "y"), "reasoning_content": "z"}]


def test_unknown_names_are_listed_with_an_example() -> None:
    assert guess_columns(["foo", "bar"]) is None
    with pytest.raises(UserError, match=r"columns foo, bar.*columns: \{user: QUESTION_COLUMN, assistant: ANSWER_COLUMN\}"):
        mapping_for(row(foo=1, bar=2), None)


def test_a_mapping_to_a_column_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(UserError, match="no column 'questoin'; it has question, answer"):
        mapping_for(row(question=1, answer=2), {"user": "questoin", "assistant": "answer"})


def test_a_row_may_lack_what_is_optional() -> None:
    columns = {"user": "q", "assistant": "a", "system": "s", "tools": "t"}
    assert convert(row(q="x", a="y"), mapping_for(row(q="x", a="y"), columns)) == {
        "prompt": [turn("user", "x")],
        "completion": [turn("assistant", "y")],
    }


@pytest.mark.parametrize(
    ("columns", "data", "words"),
    [
        ({"user": "q", "assistant": "a"}, {"q": "x", "a": None}, "assistant is nothing"),
        ({"user": "q", "assistant": "a"}, {"q": "x"}, "assistant is nothing"),
        ({"user": "q", "assistant": "a"}, {"q": True, "a": "y"}, "user is True"),
        ({"text": "t"}, {"t": ["x"]}, "text is"),
        ({"messages": "m"}, {"m": "hello"}, "messages is 'hello'"),
        ({"messages": "m"}, {"m": []}, "messages is"),
        ({"messages": "m"}, {"m": ["x"]}, "objects"),
        ({"messages": "m"}, {"m": [{"content": "x"}]}, "role is nothing"),
        ({"chosen": "c", "rejected": "r"}, {"c": "x", "r": None}, "rejected is nothing"),
        ({"text": "t"}, {"t": ["\x1b[2J"]}, "text is"),
    ],
)
def test_a_row_that_does_not_fit_is_named_by_file_and_line(columns: dict[str, str], data: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as raised:
        convert(row(**data), columns)
    assert str(raised.value).startswith("data.jsonl:7: ")
    assert words in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_targets_that_make_no_row_are_refused() -> None:
    with pytest.raises(UserError, match="make no training row"):
        convert(row(q="x"), {"rejected": "q"})
