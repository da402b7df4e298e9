"""Foreign text is shown, never obeyed."""

import json
import unicodedata

import pytest

from tuitune.text import escaped_json, printable

ACTED_UPON = {
    "colour": "\x1b[31m",
    "clipboard": "\x1b]52;c;c2VjcmV0\x07",
    "link": "\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\",
    "device control": "\x1bP1$r0m\x1b\\",
    "8-bit introducer": "\x9b2J",
    "8-bit command string": "\x9d52;c;eA==\x9c",
    "bell, backspace, return, delete": "\a\b\r\x7f",
    "right-to-left override": "user\u202egnp.exe\u202c",
    "isolates": "\u2066a\u2069\u2067b\u2069",
    "zero width": "a\u200b\u200c\u200d\u2060\ufeffb",
    "line separators": "a\u2028b\u2029\x85c",
    "tags": "\U000e0041\U000e0042",
    "private": "\ue0a0\U000f0000",
    "half a character": "\ud83d",
}


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain text, ümläut 漢字 🦜", "plain text, ümläut 漢字 🦜"),
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("\x1b]52;c;c2VjcmV0\x07", "␛]52;c;c2VjcmV0␇"),
        ("a\rb\nc\td", "a␍b␊c␉d"),
        ("\x9b2J", "<U+009B>2J"),
        ("user\u202egnp.exe", "user<U+202E>gnp.exe"),
        ("zero\u200bwidth", "zero<U+200B>width"),
        ("\x7f", "␡"),
        ("\ud800", "<U+D800>"),
    ],
)
def test_nothing_that_a_terminal_acts_upon_gets_through(raw: str, shown: str) -> None:
    assert printable(raw) == shown


def test_multi_line_panes_keep_line_feeds_and_widen_tabs() -> None:
    assert printable("a\n\tb\x1b", newlines=True) == "a\n    b␛"


def test_a_ten_million_character_row_is_cut_before_it_is_looked_at() -> None:
    shown = printable("x" * 10_000_000, limit=100)
    assert shown == "x" * 100 + "… (+9,999,900 characters)"


@pytest.mark.parametrize("text", ACTED_UPON.values(), ids=ACTED_UPON.keys())
def test_what_is_shown_and_what_is_printed_as_json_hold_no_such_character(text: str) -> None:
    document = json.dumps({"text": f"漢字 {text} é"}, ensure_ascii=False)
    for safe in (printable(text), printable(text, newlines=True), escaped_json(document)):
        assert {unicodedata.category(char) for char in safe} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} == set()
    assert json.loads(escaped_json(document)) == {"text": f"漢字 {text} é"}, "the same document"
    assert "漢字" in escaped_json(document), "letters stay letters"
