"""Where two things differ: texts, token ids, sources."""

import difflib
from collections.abc import Callable, Sequence
from typing import Any

from tuitune.template.document import Difference

CONTEXT = 24  # characters shown from the first difference on
IDS = 4  # token ids shown


def first_difference(one: Sequence[Any], other: Sequence[Any], show: Callable[[Any], str] = str) -> Difference | None:
    """Where two texts or lists of ids first differ, None where they are equal. `show` makes the excerpts' text."""
    if one == other:
        return None
    at = next((at for at, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    return Difference(at, show(one[at : at + CONTEXT]), show(other[at : at + CONTEXT]))


def cut_short(one: Sequence[Any], longer: Sequence[Any], show: Callable[[Any], str] = str) -> Difference | None:
    """Where `one` stops being the beginning of `longer`; None when it never does."""
    found = first_difference(one, longer[: len(one)], show)
    return found and Difference(found.at, found.one, show(longer[found.at : found.at + CONTEXT]))


def show_ids(ids: Sequence[int]) -> str:
    """The first of some token ids."""
    return " ".join(map(str, ids[:IDS]))


def unified(one: str, two: str, one_name: str = "", two_name: str = "") -> str:
    """The difference of two sources, as `diff -u` writes it; "" when there is none."""
    return "\n".join(difflib.unified_diff(one.splitlines(), two.splitlines(), one_name, two_name, lineterm=""))
