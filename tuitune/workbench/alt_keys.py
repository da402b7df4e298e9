"""Alt with a digit or a punctuation mark, as terminals without the kitty protocol send it: Escape, then the character.

Textual 8.2.8 drops the Alt before punctuation and reads Alt+1 as what a Mac would type (¡). Its table of sequences is private: the
contract is tested in tests/contract/test_textual_keys.py.
"""

from types import SimpleNamespace

from textual._ansi_sequences import ANSI_SEQUENCES_KEYS

NAMES = {",": "comma", ".": "full_stop", "?": "question_mark"} | {digit: digit for digit in "123456789"}


def teach() -> None:
    """Make Textual's parser know these keys; to be called before the app runs."""
    table: dict[str, object] = ANSI_SEQUENCES_KEYS  # type: ignore[assignment]
    for character, name in NAMES.items():
        table[f"\x1b{character}"] = (SimpleNamespace(value=f"alt+{name}"),)
