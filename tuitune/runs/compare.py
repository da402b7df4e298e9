"""Several runs beside each other: their curves, how far they got, and in which values they differ. Plain data; nothing is written."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import Any, Literal

from tuitune.errors import UserError
from tuitune.recipe.document import read_document
from tuitune.recipe.ledger import read_ledger
from tuitune.runs.curves import Curve, read_curves
from tuitune.runs.directory import RunDirectory
from tuitune.runs.listing import RunSummary, summarize
from tuitune.runs.manifest import read_manifest

Origin = Literal["recipe", "ledger", "data", "versions"]
ABSENT = object()  # the value of a key that a run does not have


@dataclass(frozen=True)
class Difference:
    """A value in which runs differ; `values` in the order of the runs, ABSENT where a run has none. `origin`: where it was read: what
    somebody wrote (recipe), what the trainer made of it (ledger), the data's hashes, or the versions of libraries."""

    origin: Origin
    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Compared:
    """One run with its curves."""

    run: RunSummary
    curves: Mapping[str, Curve]

    @property
    def best_eval(self) -> tuple[float, int] | None:
        """The lowest evaluation loss and its step."""
        curve = self.curves.get("eval_loss")
        pairs = [(value, int(step)) for step, value in zip(curve.steps, curve.values) if isfinite(value)] if curve else []
        return min(pairs) if pairs else None

    @property
    def speed(self) -> float | None:
        """The median of the tokens per second."""
        curve = self.curves.get("tokens_per_second")
        return median(curve.values) if curve and curve.values else None

    @property
    def seconds(self) -> float | None:
        """From the start to the end; None while it lives."""
        return None if self.run.ended is None or self.run.created is None else self.run.ended - self.run.created


@dataclass(frozen=True)
class Comparison:
    """`notes`: sentences about what could not be read."""

    runs: tuple[Compared, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


def compare(runs: Sequence[RunDirectory]) -> Comparison:
    """Read everything of these runs. UserError when there are fewer than two, one is named twice, or one is no run."""
    paths = [run.path.resolve() for run in runs]
    if len(paths) < 2 or len(set(paths)) < len(paths):
        raise UserError("compare takes two or more different runs", exit_code=2)
    found = []
    for run in runs:
        summary = summarize(run)
        if summary is None:
            raise UserError(f"{run.path} is no run: it has neither a manifest nor a journal")
        found.append(Compared(summary, read_curves(run.journal)))
    differences, notes = differ(runs)
    return Comparison(tuple(found), tuple(differences), tuple(notes))


def differ(runs: Sequence[RunDirectory]) -> tuple[list[Difference], list[str]]:
    """In which values the runs differ: what the recipes say first, then what only the trainers' ledgers, data and libraries tell; and
    sentences about what could not be read."""
    notes: list[str] = []
    recipes = [_readable(run, _recipe, notes) for run in runs]
    ledgers = [_readable(run, _ledger, notes) for run in runs]
    manifests = [_readable(run, _manifest, notes) for run in runs]
    found = list(_differences("recipe", recipes))
    written = {difference.key for difference in found}
    known = [ledger for ledger in ledgers if ledger]
    if len(known) == len(ledgers):  # a ledger that is not there yet differs in nothing
        found += [one for one in _differences("ledger", ledgers) if one.key not in written]
    for origin in ("data", "versions"):
        found += _differences(origin, _known_to_all([manifest.get(origin, {}) for manifest in manifests]))
    return found, list(dict.fromkeys(notes))


def _readable(run: RunDirectory, read: Any, notes: list[str]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = read(run)
    except UserError as error:
        notes.append(f"{run.name}: {error}")
        return {}
    return found


def _known_to_all(sides: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    shared = set(sides[0]).intersection(*sides[1:])
    return [{key: value for key, value in side.items() if key in shared} for side in sides]


def _differences(origin: Origin, sides: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    for key in dict.fromkeys(key for side in sides for key in side):
        values = tuple(side.get(key, ABSENT) for side in sides)
        if any(value is not values[0] and value != values[0] for value in values[1:]):
            yield Difference(origin, key, values)


def _recipe(run: RunDirectory) -> dict[str, Any]:
    """The recipe's values by "section.key"."""
    data = read_document(run.recipe).data
    flat: dict[str, Any] = {}
    for section, value in (data if isinstance(data, dict) else {}).items():
        entries = value.items() if isinstance(value, dict) else [("", value)]
        flat.update({f"{section}.{key}" if key != "" else str(section): item for key, item in entries})
    return flat


def _ledger(run: RunDirectory) -> dict[str, Any]:
    return {f"{entry.section}.{entry.key}" if entry.section else entry.key: entry.value for entry in read_ledger(run.effective)}


def _manifest(run: RunDirectory) -> dict[str, Any]:
    manifest = read_manifest(run)
    hashes = {
        "source rows": manifest.data_fingerprint,
        "tokens and labels": manifest.data_sha256,
        "names of trained weights": manifest.trainable_sha256,
        "reward functions": manifest.rewards_sha256,
    }
    known = {name: value[:12] for name, value in hashes.items() if value}
    return {"data": known, "versions": {name: version for name, version in manifest.versions.items() if version}}


def value_text(value: Any) -> str:
    """A value in one line; "–" for a key that a run does not have."""
    return "–" if value is ABSENT else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def document(comparison: Comparison) -> dict[str, Any]:
    """The comparison for --json: values that are not finite as text, a key that a run does not have as null and named in "absent"."""
    ids = [one.run.id for one in comparison.runs]
    return {
        "runs": [
            {
                **one.run.as_dict(),
                "best_eval": one.best_eval and {"eval_loss": one.best_eval[0], "step": one.best_eval[1]},
                "tokens_per_second": one.speed,
                "seconds": one.seconds,
                "metrics": {name: _plain(curve) for name, curve in one.curves.items()},
            }
            for one in comparison.runs
        ],
        "differences": [
            {
                "origin": one.origin,
                "key": one.key,
                "values": {name: None if value is ABSENT else value for name, value in zip(ids, one.values)},
                "absent": [name for name, value in zip(ids, one.values) if value is ABSENT],
            }
            for one in comparison.differences
        ],
        "notes": list(comparison.notes),
    }


def _plain(curve: Curve) -> dict[str, list[Any]]:
    return {
        "steps": [int(step) for step in curve.steps],
        "values": [value if isfinite(value) else str(value) for value in curve.values],
    }
