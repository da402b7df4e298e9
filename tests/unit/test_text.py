"""Foreign text is shown, never obeyed."""

import pytest

from tuitune.text import printable


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
