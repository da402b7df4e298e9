"""The prefix test: which templates print earlier turns anew, where, and whether answers begin where the generation prompt ends."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.chat_templates import CHATML, GEMMA, MISTRAL, PHI, QWEN, render, talk
from tuitune.template.difference import first_difference, unified
from tuitune.template.document import Difference, Fault, Turn
from tuitune.template.prefix import prefix_test


def outcome(template: str, turns: list[dict[str, Any]], encode: Callable[[str], list[int]] | None = None) -> tuple[list[Turn], list[Fault]]:
    return prefix_test(turns, lambda part, prompt=False: render(template, part, prompt), encode or (lambda _: []), render(template, turns))


@pytest.mark.parametrize("template", [CHATML, GEMMA, MISTRAL])
def test_a_template_that_only_adds_passes_and_tells_where_each_turn_ends(template: str) -> None:
    turns = talk(2)
    found, faults = outcome(template, turns)
    assert faults == []
    assert [turn.end for turn in found] == [len(render(template, turns[:count])) for count in range(1, 5)]
    assert [turn.prompt for turn in found][1] == len(render(template, turns[:1], True))


def test_a_template_that_closes_the_conversation_fails_at_each_turn_but_the_first() -> None:
    found, faults = outcome(PHI, talk(2))
    assert [(fault.turn, fault.test, fault.level) for fault in faults] == [(2, "turns", "text"), (3, "turns", "text"), (4, "turns", "text")]
    assert faults[0].difference == Difference(len("<|user|>\nWhat is 0?<|end|>\n<|"), "close|>", "assistant|>\nA number 0.<")
    assert [turn.end is None for turn in found] == [True, True, True, False]
    assert found[0].alone == "<|user|>\nWhat is 0?<|end|>\n<|close|>"


def test_a_template_that_forgets_what_was_thought_fails_where_it_forgets() -> None:
    _, faults = outcome(QWEN, talk(2, reasoning_content="hm"))
    assert [(fault.turn, fault.test) for fault in faults] == [(3, "turns")]
    assert faults[0].difference.one.startswith("<think>\nhm")
    assert faults[0].difference.other.startswith("A number 0.")


def test_an_answer_that_does_not_begin_where_the_prompt_ends_fails() -> None:
    _, faults = outcome(CHATML.replace("'<|im_start|>assistant\\n' }}", "'<|im_start|>assistant\\n<think>' }}"), talk(1))
    assert [(fault.turn, fault.test, fault.difference.one) for fault in faults] == [(2, "prompt", "<think>")]


def test_tokens_that_grow_together_over_a_turns_border_fail_though_the_text_passes() -> None:
    def merged(text: str) -> list[int]:  # "." and the "\n" behind it are one token
        return [ord(character) for character in text.replace(".\n", "\u2024")]

    template = "{% for m in messages %}{{ m.content }}{% if not loop.last or add_generation_prompt %}{{ '\n' }}{% endif %}{% endfor %}"
    turns = [{"role": "user", "content": "a."}, {"role": "user", "content": "b"}]
    _, faults = outcome(template, turns, merged)
    assert [(fault.turn, fault.level, fault.difference.at) for fault in faults] == [(2, "tokens", 1)]


def test_turns_that_the_template_refuses_alone_are_told_and_no_failure() -> None:
    strict = "{% if messages | length < 2 %}{{ raise_exception('two at least') }}{% endif %}" + CHATML
    found, faults = outcome(strict, talk(1))
    assert faults == []
    assert found[0].refused is not None
    assert "two at least" in found[0].refused
    assert found[1].end is not None


def test_the_first_difference_has_its_place_and_what_stands_there() -> None:
    assert first_difference("same", "same") is None
    assert first_difference("abc", "abd") == Difference(2, "c", "d")
    assert first_difference("abc", "ab") == Difference(2, "c", "")
    assert first_difference([1, 2, 3], [1, 9], lambda ids: ",".join(map(str, ids))) == Difference(1, "2,3", "9")


def test_a_source_difference_is_a_unified_diff() -> None:
    assert unified("a\nb", "a\nb") == ""
    assert unified("a\nb", "a\nc", "one", "two").splitlines() == ["--- one", "+++ two", "@@ -1,2 +1,2 @@", " a", "-b", "+c"]
