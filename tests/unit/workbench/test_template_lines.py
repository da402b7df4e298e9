"""What the template view draws: Jinja in colours, long lines over several, turns and answers underlined, a recipe extended by one line."""

import pytest

from tuitune.errors import UserError
from tuitune.template.document import Conversation, Turn
from tuitune.template.spans import Span
from tuitune.workbench.views.template import lines as drawn
from tuitune.workbench.views.template.writing import with_template

TALK = Conversation(
    "input",
    "<u>Hi</u><a>Yo</a>",
    6,
    [
        Span(0, 3, "template", "template"),
        Span(3, 5, "user", "content"),
        Span(5, 9, "user", "template"),
        Span(9, 12, "assistant", "template"),
        Span(12, 14, "assistant", "content"),
        Span(14, 18, "assistant", "template"),
    ],
    [Turn("user", end=9), Turn("assistant", end=18, prompt=12)],
    answers=[(12, 18)],
)


def text_of(lines: list[drawn.Line]) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


def test_delimiters_keywords_strings_and_comments_have_looks_of_their_own() -> None:
    found = list(drawn.highlighted("a{# c #}{%- if x == 'y%}' %}{{ z }}b"))
    assert "".join(text for text, _ in found) == "a{# c #}{%- if x == 'y%}' %}{{ z }}b"
    looks = dict(found)
    assert looks["{# c #}"] == "dim"
    assert looks["if"] == "two"
    assert looks["'y%}'"] == "three"
    assert looks["{{"] == looks["%}"] == "one"
    assert looks["x"] == looks["z"] == ""


@pytest.mark.parametrize("broken", ["{{ a", "{% if 'x", "{# never", "{{ '%}' {% }} \x1b[2J", "}}%}"])
def test_a_broken_template_is_drawn_all_the_same(broken: str) -> None:
    assert "".join(text for text, _ in drawn.highlighted(broken)) == broken
    assert "\x1b" not in "".join(text_of(drawn.flowed(drawn.highlighted(broken), 40)))


def test_a_long_line_goes_on_in_the_next_one_and_has_one_number() -> None:
    lines = drawn.flowed([("abcdefghijkl\nm", "")], 13, numbers=True)
    assert text_of(lines) == ["   1 abcdefgh", "     ijkl", "   2 m"]


def test_wide_letters_take_two_cells_and_line_feeds_can_be_seen() -> None:
    assert text_of(drawn.flowed([("漢字漢字漢\n", "")], 8, ends=True)) == ["漢字漢字", "漢↵", ""]


def test_turns_come_one_by_one_and_what_the_last_one_adds_is_underlined() -> None:
    assert drawn.turns_shown(TALK, 1) == [("<u>", "dim+under"), ("Hi", "one+under"), ("</u>", "dim+under")]
    assert drawn.turns_shown(TALK, 2) == [
        ("<u>", "dim"),
        ("Hi", "one"),
        ("</u>", "dim"),
        ("<a>", "dim"),
        ("Yo", "three"),
        ("</a>", "dim"),
    ]


def test_answers_can_be_underlined_instead() -> None:
    under = [text for text, look in drawn.turns_shown(TALK, 2, marked=True) if look.endswith("+under")]
    assert under == ["Yo", "</a>"]


def test_turns_that_render_otherwise_alone_are_shown_as_they_render() -> None:
    alone = Conversation("input", "whole", 1, [Span(0, 5, "user", "content")], [Turn("user", alone="half<end>"), Turn("assistant", end=5)])
    assert drawn.turns_shown(alone, 1) == [("half<end>", "warn")]
    refused = Conversation("input", "whole", 1, [Span(0, 5, "user", "content")], [Turn("user", refused="no"), Turn("assistant", end=5)])
    assert "no" in drawn.turns_shown(refused, 1)[0][0]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("name: x\n", "name: x\ntokenizer:\n  chat_template: t.jinja\n"),
        ("tokenizer:\n  pad_token: a # b\nname: x\n", "tokenizer:\n  pad_token: a # b\n  chat_template: t.jinja\nname: x\n"),
        ("tokenizer: {pad_token: a}\n", "tokenizer: {pad_token: a, chat_template: t.jinja}\n"),
        ("tokenizer: {chat_template: old.jinja} # c\n", "tokenizer: {chat_template: t.jinja} # c\n"),
        ("tokenizer:\n  chat_template:\n", "tokenizer:\n  chat_template: t.jinja\n"),
        ("tokenizer:\n  chat_template: null\n", "tokenizer:\n  chat_template: t.jinja\n"),
    ],
)
def test_the_recipe_is_extended_by_one_value_and_stays_as_it_was(recipe: str, expected: str) -> None:
    assert with_template(recipe, "t.jinja") == expected


def test_a_name_that_yaml_would_read_otherwise_is_quoted() -> None:
    assert with_template("name: x\n", "my: t.jinja").endswith('chat_template: "my: t.jinja"\n')


def test_a_recipe_that_cannot_be_extended_is_left_alone() -> None:
    with pytest.raises(UserError, match="write into it"):
        with_template("tokenizer: [1\n", "t.jinja")
