"""What a sweep trains: the recipe once for every combination of values, comments kept. Imports no torch."""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from tuitune.errors import UserError
from tuitune.preflight.finding import Change
from tuitune.preflight.repair import change_recipe
from tuitune.recipe.document import parse
from tuitune.recipe.report import one_line
from tuitune.recipe.schema import Schema
from tuitune.recipe.validate import validate
from tuitune.text import printable

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
MOST = 1000  # runs


def grid(written: Sequence[str]) -> list[dict[str, Any]]:
    """All combinations of `training.learning_rate=1e-4,2e-4` and so on, the last key changing first. UserError for words that are none."""
    axes: dict[str, list[Any]] = {}
    for text in written:
        key, equals, values = text.partition("=")
        if not equals or key.count(".") != 1 or not all(key.split(".")):
            raise UserError(
                f"--set takes SECTION.KEY=VALUE,VALUE, e.g. training.learning_rate=1e-4,2e-4, not {printable(text)}", exit_code=2
            )
        document = parse(f"values: [{values}]\n")
        found = document.data.get("values")
        if document.problems or not isinstance(found, list) or not found or None in found:
            raise UserError(f"--set {printable(key)}: {printable(values) or 'nothing'} is no list of values", exit_code=2)
        if key in axes:
            raise UserError(f"--set {printable(key)} is given twice; put its values into one", exit_code=2)
        axes[key] = list(dict.fromkeys(map(_number, found))) if all(isinstance(one, int | float | str) for one in found) else found
    points = [dict(zip(axes, values)) for values in product(*axes.values())]
    if not axes or len(points) > MOST:
        raise UserError("--set names what is varied, at most a thousand combinations: --set training.learning_rate=1e-4,2e-4", exit_code=2)
    return points


def _number(value: Any) -> Any:
    """YAML takes 1e-4 (without a point) for text."""
    return float(value) if isinstance(value, str) and NUMBER.fullmatch(value) else value


def point_text(text: str, values: dict[str, Any], *, wait: bool = False) -> str:
    """The recipe with the values of one point. UserError where it is written so that it cannot be changed."""
    changes = [Change(tuple(key.split(".")), value) for key, value in values.items()]
    if wait:
        changes.append(Change(("launch", "wait"), True))
    return change_recipe(text, changes)


def refuse_invalid(text: str, points: Sequence[dict[str, Any]], file: Path, schema: Schema) -> None:
    """UserError with the first error of every point that is no valid recipe."""
    faults = []
    for values in points:
        document = parse(point_text(text, values), file)
        wrong = next((problem for problem in validate(document, schema) if problem.severity == "error"), None)
        if wrong is not None:
            faults.append(f"{words(values)}: {one_line(wrong, file)}")
    if faults:
        raise UserError("nothing was started:\n" + "\n".join(faults[:8]))


def words(values: dict[str, Any]) -> str:
    """A point in words."""
    return ", ".join(f"{printable(key)} {printable(str(value), limit=40)}" for key, value in values.items())
