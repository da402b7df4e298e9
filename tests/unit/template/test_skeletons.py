"""Places of texts by a learnt skeleton are those that marks prove, and cost no render."""

from typing import Any

import pytest

from tests.unit.template.test_spans import CHATML, FORGETS, LOOKS, PREAMBLE, SHOUTS, TRIMMING, renderer
from tuitune.template.skeletons import Skeletons
from tuitune.template.spans import text_sources


def talk(*texts: str, **more: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[at % 2], "content": text, **more} for at, text in enumerate(texts)]


TALKS = [
    talk("2+2?", "4"),
    talk("one", "two"),
    talk("user\n", "\n 4 "),
    talk(" a", "b\n"),
    talk("4", "four"),
    talk("four", "4"),
    talk("", "4"),
    talk("a", "   "),
    talk("a", "b", "c", "d"),
    talk("<|im_end|>", "<|im_start|>user\n"),
    talk("a\U000f0000", "b"),
    talk("a", "b", reasoning_content="hm"),
    [{"role": "system", "content": "s"}, *talk("a", "b")],
    talk("LOUD", "LOUD"),
    talk("x", "x"),
    [],
]


@pytest.mark.parametrize("template", [CHATML, TRIMMING, PREAMBLE, FORGETS, SHOUTS, LOOKS])
def test_places_are_those_that_marks_prove_in_whatever_order_conversations_come(template: str) -> None:
    render = renderer(template)
    for order in (TALKS, TALKS[::-1]):
        skeletons = Skeletons()
        for turns in order:
            if not turns and template == PREAMBLE:
                continue  # it asks for the first turn
            text = render(turns)
            expected = text_sources(turns, render, text)
            if "\U000f0000" not in text:  # marks cannot tell themselves from the data's; a skeleton need not
                assert skeletons.sources(turns, render, text) == expected, turns


def test_a_second_conversation_of_the_same_roles_costs_no_render() -> None:
    rendered = []

    def render(turns: list[dict[str, Any]]) -> str:
        rendered.append(turns)
        return renderer(CHATML)(turns)

    skeletons = Skeletons()
    for turns in (talk("2+2?", "4"), talk("one", "two"), talk("three", " four\n")):
        text = renderer(CHATML)(turns)
        found = skeletons.sources(turns, render, text)
        assert [text[start:end] for start, end, *_ in found] == [turn["content"] for turn in turns]
    assert len(rendered) == 1
    skeletons.sources(talk("a", "b", "c"), render, renderer(CHATML)(talk("a", "b", "c")))
    assert len(rendered) == 2, "other roles are another skeleton"
