"""Where the characters of a rendered conversation come from: proven, or unknown."""

from collections.abc import Callable
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

from tuitune.template.spans import UNKNOWN, Span, of_tokens, spans

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TRIMMING = CHATML.replace("m.content", "m.content | trim")
PREAMBLE = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML
FORGETS = (  # drops the reasoning of all but the last turn
    "{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}{% endfor %}"
)
SHOUTS = CHATML.replace("m.content", "m.content | upper")
LOOKS = CHATML.replace("{{ m.content }}", "{% if m.content.startswith('4') %}four{% else %}{{ m.content }}{% endif %}")
TALK = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]


def renderer(template: str) -> Callable[[list[dict[str, Any]]], str]:
    compiled = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)
    return lambda messages: compiled.render(messages=messages)


def cut(template: str, messages: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(text, role, source) of every span."""
    render = renderer(template)
    text = render(messages)
    found = spans(messages, render)
    assert "".join(text[part.start : part.end] for part in found) == text, "no gaps, no overlaps"
    return [(text[part.start : part.end], part.role, part.source) for part in found]


def test_content_is_the_turns_own_and_the_rest_is_the_templates() -> None:
    assert cut(CHATML, TALK) == [
        ("<|im_start|>user\n", "template", "template"),
        ("2+2?", "user", "content"),
        ("<|im_end|>\n", "user", "template"),
        ("<|im_start|>assistant\n", "assistant", "template"),
        ("4", "assistant", "content"),
        ("<|im_end|>\n", "assistant", "template"),
    ]


def test_a_default_system_prompt_is_the_templates_and_not_the_first_turns() -> None:
    assert cut(PREAMBLE, TALK)[0] == ("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n", "template", "template")


def test_blanks_round_a_text_belong_to_it_where_the_template_keeps_them() -> None:
    assert (" 4 \n", "assistant", "content") in cut(CHATML, [TALK[0], {"role": "assistant", "content": " 4 \n"}])


def test_blanks_that_a_trimming_template_leaves_are_unknown_only_where_both_have_them() -> None:
    found = cut(TRIMMING, [TALK[0], {"role": "assistant", "content": "\n 4 "}])
    assert ("<|im_start|>assistant\n", "assistant", "template") in found, "a blank stands between 4 and the text's own line end"
    found = cut(TRIMMING, [TALK[0], {"role": "assistant", "content": "\n4 "}])
    assert ("4", "assistant", "content") in found
    assert ("\n", "assistant", UNKNOWN) in found, "the header's line end, or the text's: nobody can tell"


def test_reasoning_and_tool_calls_have_names_of_their_own() -> None:
    template = "{% for m in messages %}<think>{{ m.reasoning_content }}</think>{{ m.tool_calls[0].function.arguments.city }}{% endfor %}"
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
    found = cut(template, [{"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [call]}])
    assert ("hm", "assistant", "reasoning_content") in found
    assert ("Rome", "assistant", "tool_calls") in found


def test_a_template_that_forgets_earlier_turns_leaves_their_borders_unknown_and_their_texts_known() -> None:
    talk = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_content": "why"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d", "reasoning_content": "hence"},
    ]
    found = cut(FORGETS, talk)
    assert ("b", "assistant", "content") in found
    assert ("hence", "assistant", "reasoning_content") in found
    assert ("[assistant]", UNKNOWN, "template") in found
    assert not any("why" in text for text, _, _ in found)


def test_a_text_in_other_letters_is_still_that_text() -> None:
    assert ("HELLO", "user", "content") in cut(SHOUTS, [{"role": "user", "content": "hello"}])


def test_a_text_that_the_template_looks_into_is_unknown() -> None:
    assert {source for _, _, source in cut(LOOKS, TALK)} == {UNKNOWN}


def test_a_template_that_refuses_half_a_conversation_still_proves_the_texts() -> None:
    template = "{% if messages | length < 2 %}{{ raise('no') }}{% endif %}" + CHATML

    def render(messages: list[dict[str, Any]]) -> str:
        environment = ImmutableSandboxedEnvironment()
        environment.globals["raise"] = lambda text: 1 / 0
        return environment.from_string(template).render(messages=messages)

    found = spans(TALK, render)
    assert [(part.role, part.source) for part in found if part.source == "content"] == [("user", "content"), ("assistant", "content")]


def test_private_characters_in_the_data_are_never_taken_for_marks() -> None:
    assert {source for _, _, source in cut(CHATML, [{"role": "user", "content": "\U000f0000x\U000f0001"}])} == {UNKNOWN}


def test_a_token_over_a_border_has_both_and_one_without_characters_none() -> None:
    parts = [Span(0, 3, "user", "template"), Span(3, 5, "user", "content")]
    assert list(of_tokens([(0, 2), (2, 4), (4, 4), (4, 5)], parts)) == [
        ("user", "template"),
        ("user", "template+content"),
        (UNKNOWN, UNKNOWN),
        ("user", "content"),
    ]


def test_a_header_that_a_template_prints_unasked_is_not_the_turns_before() -> None:
    """Llama 3's base template ends every render with the assistant's header, so the first turn's render holds the next one's."""
    found = cut(CHATML.replace("{% endfor %}", "{% endfor %}{{ '<|im_start|>assistant\\n' }}"), TALK)
    assert ("<|im_end|>\n<|im_start|>assistant\n", UNKNOWN, "template") in found
    assert ("4", "assistant", "content") in found


def test_a_turn_without_a_header_leaves_the_turn_before_its_end() -> None:
    found = cut(
        "{% for m in messages %}{{ '[INST]' + m.content + '[/INST]' if m.role == 'user' else m.content + '</s>' }}{% endfor %}", TALK
    )
    assert ("[/INST]", "user", "template") in found
