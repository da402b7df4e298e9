"""Planted data: files of any format and bytes, and what the checks of Stage.DATA say of them (without preparing the rows: milliseconds)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.planted import CARD, Place, plant
from tuitune.analyst.check_context import CheckContext
from tuitune.analyst.render_watch import RenderWatch
from tuitune.preflight.finding import Finding
from tuitune.preflight.registry import Stage, all_checks
from tuitune.preflight.run import run_checks
from tuitune.recipe.document import read_document
from tuitune.recipe.recipe import load_recipe

ASKED = {"user": "question", "assistant": "answer"}
PAIRS = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
Rows = Sequence[Mapping[str, Any]]


def questions(count: int = 24) -> list[dict[str, Any]]:
    """Questions and answers with which nothing is wrong."""
    return [{"question": f"How much is {n} and {n + 3}?", "answer": f"Adding {n} to {n + 3} gives {2 * n + 3}."} for n in range(count)]


def pairs(count: int = 24) -> list[dict[str, Any]]:
    """Preferences with which nothing is wrong."""
    return [
        {"prompt": f"How much is {n} and {n + 3}?", "chosen": f"It is {2 * n + 3}, exactly.", "rejected": f"It is {n} or {n + 3} or so."}
        for n in range(count)
    ]


def talk(*said: tuple[str, Any], **more: Any) -> dict[str, Any]:
    """A row of turns (role, content)."""
    return {"messages": [{"role": role, "content": content} for role, content in said], **more}


def plant_data(
    folder: Path,
    model: Path,
    data: Rows | bytes | str,
    columns: Mapping[str, str] | None = ASKED,
    name: str = "train.jsonl",
    **sections: Any,
) -> Place:
    """A workspace whose training file is called `name` and holds `data`: rows as jsonl, or bytes as they are."""
    if not isinstance(data, bytes | str):
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in data)
    source = {"path": name, **({"columns": dict(columns)} if columns else {})}
    place = plant(folder, model=model, **{"dataset": {"train": [source]}, **sections})
    place.data.unlink()
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return Place(place.recipe, place.model, folder / name)


def of_data(place: Place, groups: tuple[str, ...] = ("DAT", "PREF")) -> list[Finding]:
    """What the checks of Stage.DATA find whose names begin so ("": all of them)."""
    recipe = load_recipe(place.recipe)
    context = CheckContext(recipe, read_document(place.recipe), CARD, RenderWatch(), lambda text: None)
    return run_checks([check for check in all_checks() if check.id.startswith(groups)], context, {Stage.DATA}).findings


def told(findings: Sequence[Finding]) -> dict[str, str]:
    """Check → severity of its findings (the worst)."""
    order = ("info", "warning", "error")
    found: dict[str, str] = {}
    for finding in findings:
        found[finding.id] = max(found.get(finding.id, "info"), finding.severity, key=order.index)
    return found
