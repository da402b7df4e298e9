"""What a finished run says about itself: ledger, manifest, journal and evaluations, as the model card and the serving snippets need it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuitune.bus.journal import read_records
from tuitune.errors import UserError
from tuitune.recipe.ledger import read_ledger
from tuitune.runs.curves import read_curves
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Manifest, read_manifest


@dataclass(frozen=True)
class RunFacts:
    """`values`: (section, key) → what was in force; `data`, `hello`, `result`: the last such records of the trainer's journal;
    `losses`: metric → (first, last); `evaluations`: reports, oldest first; `recipe`: its text."""

    manifest: Manifest
    values: dict[tuple[str, str], Any]
    recipe: str
    hello: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, tuple[float, float]] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)

    def value(self, section: str, key: str) -> Any:
        """A value in force, None when the ledger has none."""
        return self.values.get((section, key))

    @property
    def seconds(self) -> float | None:
        """From start to end; None when it did not end."""
        return None if self.manifest.ended is None else self.manifest.ended - self.manifest.created


def read_facts(run: RunDirectory) -> RunFacts:
    """Everything of a run that is there; UserError when it has no manifest, ledger or recipe, which every run that trained has."""
    manifest = read_manifest(run)
    values = {(entry.section, entry.key): entry.value for entry in read_ledger(run.effective)}
    try:
        recipe = run.recipe.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{run.recipe} cannot be read ({error.strerror})") from error
    last: dict[str, dict[str, Any]] = {}
    for attempt in range(1, manifest.attempt + 1):
        for record in read_records(run.journal / f"trainer-{attempt}.jsonl", ("hello", "data")):
            last[str(record["ev"])] = record
    curves = read_curves(run.journal)
    losses = {name: (curve.values[0], curve.values[-1]) for name, curve in curves.items() if curve.values}
    return RunFacts(manifest, values, recipe, last.get("hello", {}), last.get("data", {}), losses, _evaluations(run.path / "evaluations"))


def _evaluations(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # a report that cannot be read is no figure
        if isinstance(document, dict):
            found.append(document)
    return found
