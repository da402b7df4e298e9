"""How much text is looked at token by token. A row of ten million characters takes minutes and gigabytes, and nobody reads it."""

from collections.abc import Sequence
from typing import Any

from tuitune.dataset.load import Split
from tuitune.errors import UserError
from tuitune.text import printable

OF_A_ROW = 1_000_000  # characters; some 250,000 tokens of English, ten seconds
OF_ALL = 4_000_000


def characters(value: Any) -> int:
    """Characters of all texts in a row."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(characters(item) for pair in value.items() for item in pair)
    return sum(characters(item) for item in value) if isinstance(value, list | tuple) else 0


def affordable(split: Split, chosen: Sequence[int]) -> tuple[list[int], list[str]]:
    """Those of `chosen` that can be looked at, and a sentence for what is left out. UserError when nothing is left."""
    kept: list[int] = []
    told: list[str] = []
    room, beyond = OF_ALL, 0
    for number in chosen:
        size = characters(split.rows[number])
        if size > OF_A_ROW:
            file, line = split.places[number]
            told.append(
                f"{printable(file)}:{line}: row {number} has {size:,} characters, and rows of more than {OF_A_ROW:,} are not shown "
                "token by token; split it, or look at other rows (--row N)"
            )
        elif size > room:
            beyond += 1
        else:
            kept.append(number)
            room -= size
    if beyond:
        told.append(f"{beyond} rows more would be over {OF_ALL:,} characters together; look at fewer at a time (--row N)")
    if told and not kept:
        raise UserError(told[0])
    return kept, told
