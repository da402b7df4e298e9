"""{% generation %} lands round what the assistant writes, in every style of template; where it cannot, the reason is a sentence."""

import re
from typing import Any

import pytest

from tests.support.chat_templates import CHATML, CLOSE, GEMMA, LLAMA, OPEN, QWEN, SPECIAL, STYLES, render, talk
from tuitune.template.answers import Answer, Token, Unproven, answers
from tuitune.template.document import Conversation
from tuitune.template.marking import Refused, Sample, candidates
from tuitune.template.prefix import prefix_test
from tuitune.template.spans import spans

_TOKENS = re.compile("|".join(map(re.escape, SPECIAL)) + "|.", re.DOTALL)
END = "<|close|>"  # the tokenizer's own end of text


def rendered(template: str, turns: list[dict[str, Any]]) -> Conversation:
    text = render(template, turns)
    found, faults = prefix_test(turns, lambda part, prompt=False: render(template, part, prompt), lambda _: [], text)
    parts = spans(turns, lambda part: render(template, part), text)
    return Conversation("input", text, None, parts, found, faults, deaf=render(template, turns, True) == text)


def written(template: str, turns: list[dict[str, Any]]) -> list[str]:
    """What the assistant writes in the render."""
    talk = rendered(template, turns)
    return [talk.text[part.start : part.end] for part in parts_of(talk)]


def parts_of(talk: Conversation) -> list[Answer]:
    tokens = [Token(m.start(), m.end(), m.group() in SPECIAL, m.group() == END) for m in _TOKENS.finditer(talk.text)]
    return answers(talk, tokens, SPECIAL)


def marked(template: str, *talks: list[dict[str, Any]]) -> tuple[str, list[int]]:
    samples = [Sample(turns, found.text, parts_of(found)) for turns in talks for found in [rendered(template, turns)]]
    for text, unreached in candidates(template, samples, render):
        if all(bare(render(text, sample.talk)) == sample.text for sample in samples):
            return text, unreached
    raise AssertionError("no candidate prints the same")


def bare(text: str) -> str:
    return text.replace(OPEN, "").replace(CLOSE, "")


def inside(text: str) -> list[str]:
    """What stands between brackets, those next to each other together."""
    return re.findall(f"{OPEN}([^{CLOSE}]*){CLOSE}", text.replace(CLOSE + OPEN, ""))


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("chatml", ["A number 0.<|im_end|>", "A number 1.<|im_end|>"]),
        ("llama", ["A number 0.<|eot|>", "A number 1.<|eot|>"]),
        ("mistral", ["A number 0.</s>", "A number 1.</s>"]),
        ("gemma", ["A number 0.<|/turn|>", "A number 1.<|/turn|>"]),
        ("phi", ["A number 0.<|end|>", "A number 1.<|end|>"]),
        ("qwen", ["A number 0.<|im_end|>", "A number 1.<|im_end|>"]),
    ],
)
def test_what_the_assistant_writes_is_its_text_and_the_end_of_its_turn(style: str, expected: list[str]) -> None:
    assert written(STYLES[style], talk(2)) == expected


def test_thoughts_and_tool_calls_are_written_too_from_behind_the_prompt_on() -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 3}}}
    turns = [{"role": "user", "content": "1+2?"}, {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [call]}]
    assert written(QWEN, turns) == [
        '<think>\nhm\n</think>\n\n\n<tool_call>\n{"name": "add", "arguments": {"a": 3}}\n</tool_call><|im_end|>'
    ]


def test_an_empty_answer_is_the_end_of_the_turn_alone() -> None:
    assert written(CHATML, [{"role": "user", "content": "?"}, {"role": "assistant", "content": ""}]) == ["<|im_end|>"]


def test_two_answers_in_a_row_do_not_take_the_header_between_them() -> None:
    turns = [*talk(1), {"role": "assistant", "content": "And."}]
    assert written(CHATML, turns) == ["A number 0.<|im_end|>", "And.<|im_end|>"]


def test_a_template_that_looks_into_its_texts_proves_nothing() -> None:
    looks = CHATML.replace("message['content'] +", "('x' if message['content'].startswith('A') else message['content']) +")
    with pytest.raises(Unproven, match="looks into the texts"):
        written(looks, talk(1))


def test_a_template_that_goes_on_behind_the_last_answer_is_refused_with_what_it_prints() -> None:
    always = LLAMA.replace("{% if add_generation_prompt %}", "").removesuffix("{% endif %}")
    with pytest.raises(Unproven, match=r"behind the last answer the template goes on with '<\|head\|>assistant<\|/head\|>"):
        written(always, talk(1))


@pytest.mark.parametrize("style", STYLES)
def test_markers_stand_round_every_answer_and_the_render_is_the_same(style: str) -> None:
    template = STYLES[style]
    text, _ = marked(template, talk(1), talk(3))
    for turns in (talk(1), talk(2), talk(3)):
        found = render(text, turns)
        assert bare(found) == render(template, turns)
        assert inside(found) == written(template, turns)
        assert bare(render(text, turns[:-1], True)) == render(template, turns[:-1], True), "the generation prompt stays as it was"


def test_only_what_prints_answers_is_touched() -> None:
    text, _ = marked(GEMMA, talk(2))
    assert text.startswith(GEMMA.partition("{{ '<|turn|>' + role")[0])
    assert text.endswith(GEMMA[GEMMA.index("{% endfor %}") :])
    assert "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] | trim + '<|/turn|>' }}{% endgeneration %}" in text


def test_a_header_that_is_put_into_a_name_with_the_answer_is_taken_apart() -> None:
    text, _ = marked(LLAMA, talk(2))
    assert "{% set content = '<|head|>' %}" in text
    assert "{% generation %}{{ message['content'] | trim + '<|eot|>' }}{% endgeneration %}" in text


def test_lines_that_no_row_prints_anything_of_are_named() -> None:
    _, unreached = marked(QWEN, talk(2))
    assert unreached == [6, 10, 11, 12]
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 3}}}
    _, unreached = marked(QWEN, talk(1, reasoning_content="hm", tool_calls=[call]))
    assert unreached == []


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (CHATML.replace("{% endfor %}", "{% endfor %}{% generation %}{% endgeneration %}", 1), "has {% generation %} already"),
        (
            "{% for m in messages %}{{ '<|im_start|>%s %s<|im_end|>' | format(m.role, m.content) }}{% endfor %}",
            "line 1 prints the answer and something else as one value",
        ),
        ("{% macro say(m) %}<|im_start|>{{ m.content }}<|im_end|>{% endmacro %}{% for m in messages %}{{ say(m) }}{% endfor %}", "line 1"),
    ],
)
def test_what_cannot_be_marked_is_refused_with_the_place(template: str, reason: str) -> None:
    with pytest.raises(Refused, match=re.escape(reason)):
        marked(template, talk(1))


def test_windows_line_ends_and_a_last_line_feed_are_read_as_jinja_reads_them() -> None:
    text, _ = marked(QWEN.replace("\n", "\r\n") + "\r\n", talk(2))
    assert inside(render(text, talk(2))) == written(QWEN, talk(2))
