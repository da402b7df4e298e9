"""A recipe's problems and what their fixes make of the text. Imports nothing of Textual, and the recipe package only when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tuitune.recipe.problems import Problem
    from tuitune.recipe.schema import Schema

MOST = 200  # fixes applied in one go: two that undo each other must not go on for ever


class Change(NamedTuple):
    """Replace what stands from `start` to `end` (row and column from 0) by `text`."""

    text: str
    start: tuple[int, int]
    end: tuple[int, int]


def problems_of(text: str, path: Path, schema: Schema | None) -> list[Problem]:
    """Everything that is wrong with the text, by position; without a schema only what is wrong with it as YAML."""
    from tuitune.recipe.document import parse
    from tuitune.recipe.validate import validate

    document = parse(text, path)
    return validate(document, schema) if schema is not None else list(document.problems)


def problem_at(problems: Sequence[Problem], line: int, column: int) -> Problem | None:
    """The problem at a position (from 1), else the first of its line."""
    on_line = [problem for problem in problems if problem.line <= line <= problem.end_line]
    at = [problem for problem in on_line if problem.line == line and problem.column <= column <= max(problem.end_column, problem.column)]
    return next(iter(at or on_line), None)


def with_every_fix(text: str, path: Path, schema: Schema | None) -> str:
    """The text with fix after fix applied until none is left, each looked up in what the last one made."""
    from tuitune.recipe.problems import apply_fix

    for _ in range(MOST):
        fix = next((problem.fix for problem in problems_of(text, path, schema) if problem.fix), None)
        if fix is None:
            break
        text = apply_fix(text, fix)
    return text


def change_between(before: str, after: str) -> Change:
    """The one smallest stretch of `before` whose replacement makes it `after`."""
    shorter = min(len(before), len(after))
    start = next((at for at in range(shorter) if before[at] != after[at]), shorter)
    left = shorter - start
    tail = next((at for at in range(left) if before[-1 - at] != after[-1 - at]), left)
    end = len(before) - tail
    return Change(after[start : len(after) - tail], _location(before, start), _location(before, end))


def _location(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset), offset - (text.rfind("\n", 0, offset) + 1)
