"""Which texts a template prints, and which conversations are alike but for their texts."""

import json
from typing import Any

import pytest

from tests.support.chat_templates import CHATML, LLAMA, QWEN, render, talk
from tuitune.template.words import in_words, shape_of, unprinted

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 3, "b": ["four", None]}}}


def left_out(template: str, turns: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(word.turn, word.source) for word in unprinted(turns, lambda changed: render(template, changed))]


def test_a_template_that_prints_everything_leaves_nothing_out() -> None:
    assert left_out(CHATML, talk(3)) == []


def test_turns_that_are_not_printed_are_named() -> None:
    only_users = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    assert left_out(only_users, talk(2)) == [(1, "content"), (3, "content")]


def test_reasoning_of_earlier_turns_is_told_from_that_of_the_last() -> None:
    assert left_out(QWEN, talk(2, reasoning_content="hm")) == [(1, "reasoning")]
    assert left_out(LLAMA, talk(1, reasoning_content="hm")) == [(1, "reasoning")]


def test_reasoning_under_two_names_is_one_text() -> None:
    (_, turn), words = in_words(talk(1, reasoning_content="hm", thinking="hm"))
    assert turn["reasoning_content"] == turn["thinking"]
    assert [word.source for word in words] == ["content", "reasoning", "content"]


def test_reasoning_in_the_content_is_a_text_of_its_own() -> None:
    turns = [{"role": "assistant", "content": "<think>\nhm\n</think>\n\nA number."}]
    cut = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
    assert left_out(cut, turns) == [(0, "reasoning")]
    assert left_out(CHATML, turns) == []


@pytest.mark.parametrize("arguments", [CALL["function"]["arguments"], json.dumps(CALL["function"]["arguments"]), "not JSON"])
def test_every_argument_of_a_tool_call_counts(arguments: Any) -> None:
    turns = [{"role": "assistant", "content": "", "tool_calls": [{**CALL, "function": {"name": "add", "arguments": arguments}}]}]
    assert left_out(QWEN, turns) == []
    assert {source for _, source in left_out(CHATML, turns)} == {"tool_calls"}


def test_texts_of_a_content_in_parts_are_replaced_one_by_one() -> None:
    turns, words = in_words(
        [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "image"}, {"type": "text", "text": "two"}]}]
    )
    assert [part.get("text") for part in turns[0]["content"]] == [words[0].word, None, words[1].word]


def test_blank_texts_are_no_texts() -> None:
    turns = [{"role": "user", "content": " \n"}, {"role": "assistant", "content": ""}]
    assert in_words(turns) == (turns, [])


def test_conversations_that_differ_in_their_texts_only_have_one_shape() -> None:
    assert shape_of(talk(2)) == shape_of([{**turn, "content": "Something else."} for turn in talk(2)])


@pytest.mark.parametrize(
    "other",
    [
        talk(3),
        [{**turn, "role": "assistant"} for turn in talk(2)],
        [{**turn, "content": ""} for turn in talk(2)],
        [{**turn, "content": [{"type": "text", "text": "hm"}]} for turn in talk(2)],
        talk(2, reasoning_content="hm"),
        talk(2, content="<think>hm</think>yes"),
        talk(2, tool_calls=[CALL]),
    ],
)
def test_other_roles_kinds_and_keys_make_another_shape(other: list[dict[str, Any]]) -> None:
    assert shape_of(other) != shape_of(talk(2))
