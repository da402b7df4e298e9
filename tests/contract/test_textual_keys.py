"""What alt_keys.py leans on: Textual's table of key sequences. Fails when a new Textual needs it no more, or needs it otherwise."""

import pytest
from textual._xterm_parser import XTermParser
from textual.events import Key

from tuitune.workbench import alt_keys


@pytest.mark.parametrize(("character", "name"), alt_keys.NAMES.items())
def test_alt_with_a_mark_or_digit_arrives(character, name):
    alt_keys.teach()
    parser = XTermParser(False)
    keys = [event.key for event in parser.feed(f"\x1b{character}") if isinstance(event, Key)]
    assert keys == [f"alt+{name}"]


@pytest.mark.parametrize(
    ("sequence", "key"),
    [
        ("\x1c", "ctrl+backslash"),
        ("\x1b[15~", "f5"),
        ("\x1b[15;2~", "shift+f5"),
        ("\x1b[19;2~", "shift+f8"),
        ("\x1b[5;5~", "ctrl+pageup"),
        ("\x12", "ctrl+r"),
    ],
)
def test_keys_of_the_registry_arrive(sequence, key):
    assert [event.key for event in XTermParser(False).feed(sequence)] == [key]
