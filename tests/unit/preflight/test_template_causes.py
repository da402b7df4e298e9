"""Why a template refuses a conversation: the fewest changes that make it render."""

from collections.abc import Sequence
from typing import Any

import pytest

from tuitune.preflight.template.causes import causes, merged, without_tools

CALL = {"type": "function", "function": {"name": "add", "arguments": {}}}
GEMMA = "Conversation roles must alternate user/assistant/user/assistant/..."


def turns(*roles: str) -> list[dict[str, Any]]:
    return [{"role": role, "content": f"text {at}"} for at, role in enumerate(roles)]


def strict(conversation: Sequence[dict[str, Any]]) -> bool:
    """Fails as Gemma's template does: user and assistant in turn, nothing else."""
    return any(turn["role"] != ("user", "assistant")[at % 2] for at, turn in enumerate(conversation))


@pytest.mark.parametrize(
    ("conversation", "expected"),
    [
        (turns("system", "user", "assistant"), ["TPL09"]),
        (turns("developer", "user", "assistant"), ["TPL09"]),
        (turns("user", "user", "assistant"), ["TPL10"]),
        (turns("system", "user", "user", "assistant"), ["TPL09", "TPL10"]),
        (turns("Human", "GPT"), ["TPL11"]),
        (turns("user", "tool", "assistant"), ["TPL08"]),
        (turns("assistant", "user", "assistant"), ["TPL10"]),  # no repair helps, but the error says what it is
    ],
)
def test_a_cause_is_what_has_to_be_changed(conversation: list[dict[str, Any]], expected: list[str]) -> None:
    assert causes(conversation, ValueError(GEMMA), strict) == expected


def test_what_no_change_helps_with_has_no_cause() -> None:
    assert causes(turns("system", "user", "user"), ValueError("'bos_token' is undefined"), lambda _: True) == []
    assert causes([], ValueError(GEMMA), lambda _: True) == []


def test_without_tools_the_answers_round_a_call_are_one() -> None:
    called = [
        *turns("user"),
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "7"},
        *turns("assistant"),
    ]
    assert [turn["role"] for turn in without_tools(called)] == ["user", "assistant"]
    plain = turns("user", "user")
    assert without_tools(plain) == plain


def test_merging_changes_nothing_that_it_is_given() -> None:
    given = turns("user", "user", "assistant")
    assert [turn["content"] for turn in merged(given)] == ["text 0\n\ntext 1", "text 2"]
    assert given == turns("user", "user", "assistant")
