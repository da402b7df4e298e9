"""What `tuitune inspect` says of a file of rows, in the form of tests.support.reference_rows, through its JSON document."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Sequences = list[tuple[list[int], list[int]]]


def write_recipe(path: Path, model: Path, file: Path, task: str, columns: Mapping[str, str], training: Mapping[str, Any]) -> Path:
    """A recipe that trains on one file."""
    source = {"path": str(file), "columns": dict(columns)}
    recipe = {"task": task, "model": {"name_or_path": str(model)}, "dataset": {"train": [source]}, "training": dict(training)}
    path.write_text(json.dumps(recipe))  # JSON is YAML
    return path


def inspected(recipe: Path) -> dict[str, Any]:
    """The JSON document of `tuitune inspect`, made in this process. Raises UserError as it does."""
    from tuitune.analyst.document import as_json
    from tuitune.analyst.inspection import inspect
    from tuitune.recipe.recipe import load_recipe

    document: dict[str, Any] = json.loads(json.dumps(as_json(inspect(load_recipe(recipe)))))
    return document


def sequences(document: Mapping[str, Any]) -> Sequences:
    """The trainer's sequences put together again from the rows that are in them."""
    packs: dict[int, list[dict[str, Any]]] = {}
    single = []
    for row in document["rows"]:
        for sequence in row["sequences"]:
            if sequence["pack"] is None:
                single.append(sequence["tokens"])
            else:
                packs.setdefault(sequence["pack"], []).extend(sequence["tokens"])
    joined = single or [sorted(tokens, key=lambda token: token["position"]) for _, tokens in sorted(packs.items())]
    return [([token["id"] for token in tokens], [token["label"] for token in tokens]) for tokens in joined]
