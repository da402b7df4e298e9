"""Planted faults: a workspace with a small model of a real or tiny tokenizer, rows and a recipe, and what preflight says of it.

place = plant(tmp_path, rows=[…], training={"max_length": 64})
assert "DAT13" in ids(check(place.recipe))
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuitune.preflight.box import Box
from tuitune.preflight.cards import Card
from tuitune.preflight.environment import TESTED
from tuitune.preflight.finding import Finding
from tuitune.preflight.preflight import Report, preflight
from tuitune.preflight.repair import apply_fixes

CARD = Card("L4", 24 << 30, (8, 9), named=True)  # a card that nothing is wrong with
TALK = {"messages": "messages"}


@dataclass(frozen=True)
class Place:
    """`model`: the model's folder; `data`: the training file."""

    recipe: Path
    model: Path
    data: Path


def turns(*contents: str, system: str | None = None) -> dict[str, Any]:
    """One row: user and assistant in turn."""
    roles = ("user", "assistant")
    said = [{"role": roles[at % 2], "content": content} for at, content in enumerate(contents)]
    return {"messages": [{"role": "system", "content": system}, *said] if system else said}


def sound_rows(count: int = 24) -> list[dict[str, Any]]:
    """Rows with which nothing is wrong: distinct questions, distinct answers."""
    return [turns(f"How much is {n} and {n + 3}?", f"Adding {n} to {n + 3} gives {2 * n + 3}.") for n in range(count)]


def plant(
    folder: Path,
    *,
    model: Path,
    rows: Sequence[Mapping[str, Any]] | None = None,
    columns: Mapping[str, str] | None = TALK,
    evaluation: Sequence[Mapping[str, Any]] | None = None,
    change: Callable[[Path], object] | None = None,
    load: Mapping[str, Any] | None = None,
    **sections: Any,
) -> Place:
    """A workspace in `folder`: a copy of `model` (changed by `change`), data files, a recipe. `load`: more keys of
    its section `model:`; `sections` are laid over a sound recipe's, None takes one out."""
    folder.mkdir(parents=True, exist_ok=True)
    copied = folder / "model"
    shutil.copytree(model, copied)
    if change:
        change(copied)
    recipe: dict[str, Any] = {
        "task": "sft",
        "model": {"name_or_path": "./model", **(load or {})},
        "peft": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
        "dataset": {"train": [_source(folder / "train.jsonl", sound_rows() if rows is None else rows, columns)]},
        "training": {"max_length": 128, "num_train_epochs": 3, "per_device_train_batch_size": 2, "learning_rate": 2e-4},
    }
    if evaluation is not None:
        recipe["dataset"]["eval"] = [_source(folder / "eval.jsonl", evaluation, columns)]
    for name in [name for name, section in sections.items() if section is None]:
        recipe.pop(name, None)
        del sections[name]
    for name, section in sections.items():
        recipe[name] = {**recipe.get(name, {}), **section} if isinstance(section, dict) and isinstance(recipe.get(name), dict) else section
    file = folder / "recipe.yaml"
    file.write_text(_as_yaml(recipe), encoding="utf-8")
    return Place(file, copied, folder / "train.jsonl")


def check(recipe: Path, card: Card = CARD) -> Report:
    """All of preflight, with the analyst's part in this process."""
    return preflight(recipe, _InProcess(), card, look=sound_box)


def check_early(recipe: Path, card: Card = CARD) -> Report:
    """As `check` without the analyst's part: what document, headers and box say, in milliseconds."""
    return preflight(recipe, _Silent(), card, look=sound_box)


class _Silent:
    def request(self, op: str, args: dict[str, Any], **hooks: Any) -> dict[str, Any]:
        return {"ran": [], "skipped": {}}


def sound_box() -> Box:
    """A computer without fault: what is planted is in the workspace."""
    return Box(
        versions=dict(TESTED[0]),
        memory=64 << 30,
        memory_free=60 << 30,
        shared_memory=16 << 30,
        open_files=65536,
        clock=time.time(),
        disk_free=lambda path: 500 << 30,
        libraries={"torch": {"version": "2.13.0", "available": False, "devices": [], "archs": []}, "bitsandbytes": {"works": True}},
    )


def ids(report: Report, *severities: str) -> set[str]:
    """Which checks found something, of these severities (none named: all)."""
    return {finding.id for finding in report.findings if not severities or finding.severity in severities}


def alarms(report: Report) -> list[str]:
    """Errors and warnings in words; a clean workspace has none (of this box's own the environment group tells)."""
    return [f"{f.id} {f.severity}: {f.message}" for f in report.findings if f.severity != "info" and not f.id.startswith("ENV")]


def finding(report: Report, id: str) -> Finding:
    """The one finding of this check."""
    (found,) = [finding for finding in report.findings if finding.id == id]
    return found


def assert_found_and_repaired(place: Place, id: str, severity: str, card: Card) -> None:
    """What document and headers show has this fault alone, at the recipe, and its fix leaves nothing."""
    report = check_early(place.recipe, card)
    found = finding(report, id)
    assert (found.severity, found.where.file) == (severity, str(place.recipe))
    assert ids(report) == {id}
    assert found.fix is not None
    apply_fixes(place.recipe, report.text, [found.fix])
    assert ids(check_early(place.recipe, card)) == set()


class _InProcess:
    """Does what the analyst does, in this process: nothing to start, nothing to wait for."""

    def request(self, op: str, args: dict[str, Any], *, part: Any = None, **hooks: Any) -> dict[str, Any]:
        from tuitune.analyst.check import check
        from tuitune.analyst.render_watch import RenderWatch
        from tuitune.analyst.server import Told
        from tuitune.recipe.recipe import load_recipe

        assert op == "check"

        def tell(event: str, **fields: Any) -> None:
            if event == "part":
                part(json.loads(json.dumps(fields["part"])))

        told = Told(tell)
        result = check(load_recipe(Path(args["recipe"])), RenderWatch(), told, args["card"])
        told.do_the_rest()
        return result


def _source(file: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | None) -> dict[str, Any]:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return {"path": file.name, **({"columns": dict(columns)} if columns else {})}


def _as_yaml(recipe: Mapping[str, Any]) -> str:
    """Block style, as people write it, so that fixes have lines to change."""
    from io import StringIO

    from ruamel.yaml import YAML

    out = StringIO()
    YAML().dump(dict(recipe), out)
    return out.getvalue()
