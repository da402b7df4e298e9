"""What a finished run says about itself: ledger, manifest, journal and evaluations, as the model card and the serving snippets need it;
and which weights of it a folder holds."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuitune.bus.envelope import as_number
from tuitune.bus.journal import read_records
from tuitune.errors import UserError
from tuitune.files import file_hash
from tuitune.recipe.ledger import read_ledger
from tuitune.runs.checkpoints import step_of
from tuitune.runs.curves import Curve, read_curves
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Manifest, read_manifest


@dataclass(frozen=True)
class RunFacts:
    """`values`: (section, key) → what was in force; `data`, `hello`, `result`: the last such records of the trainer's journal;
    `curves`: metric → its values over the steps; `evaluations`: reports, oldest first; `recipe`: its text; `left`: the step of the weights
    in its `adapter` folder."""

    run: RunDirectory
    manifest: Manifest
    values: dict[tuple[str, str], Any]
    recipe: str
    hello: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    left: int | None = None

    def value(self, section: str, key: str) -> Any:
        """A value in force, None when the ledger has none."""
        return self.values.get((section, key))

    @property
    def seconds(self) -> float | None:
        """From start to end; None when it did not end."""
        return None if self.manifest.ended is None else self.manifest.ended - self.manifest.created


@dataclass(frozen=True)
class Weights:
    """Which weights a folder holds. `sha256`: of the adapter's file, or of the one that was merged into them; `folder`: its name in the
    run that made it; `step`: how long that had trained, None when nobody knows; `written`: when, in unix seconds."""

    folder: str
    sha256: str | None
    step: int | None
    written: float

    def are_of(self, report: dict[str, Any]) -> bool:
        """Whether an evaluation (tuitune.after.report) is of these: by the hash, for a whole model by the folder and the time."""
        source = report.get("source")
        if not isinstance(source, dict):
            return False
        told = source.get("adapter_sha256")
        if told is not None and self.sha256 is not None:
            return bool(told == self.sha256)
        return source.get("folder") == self.folder and (as_number(report.get("created")) or 0) >= self.written


def weights_of(folder: Path, facts: RunFacts) -> Weights:
    """The weights in a folder of the run: its adapter or a checkpoint, or what one was merged to. OSError when it cannot be read."""
    final = facts.run.adapter
    sha256 = adapter_hash(folder) or merged_from(folder)
    step = step_of(folder)
    if step is None and (folder == final or (sha256 is not None and adapter_hash(final) == sha256)):
        step = facts.left
    written = max((path.stat().st_mtime for path in folder.glob("*.safetensors")), default=0.0)
    return Weights(name_in(facts.run, folder), sha256, step, written)


def adapter_hash(folder: Path) -> str | None:
    """sha256 of the adapter in a folder; None where there is none."""
    file = folder / "adapter_model.safetensors"
    return file_hash(file) if file.is_file() else None


def name_in(run: RunDirectory, folder: Path) -> str:
    """A folder's name in its run's directory; one elsewhere keeps its own."""
    return folder.relative_to(run.path).as_posix() if folder.is_relative_to(run.path) else str(folder)


def merged_from(folder: Path) -> str | None:
    """sha256 of the adapter that was merged into the model in `folder`; None for a model that no merge of ours made."""
    try:
        found = json.loads((folder / "merge.json").read_bytes()).get("adapter_sha256")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def read_facts(run: RunDirectory) -> RunFacts:
    """Everything of a run that is there; UserError when it has no manifest, ledger or recipe, which every run that trained has."""
    manifest = read_manifest(run)
    values = {(entry.section, entry.key): entry.value for entry in read_ledger(run.effective)}
    try:
        recipe = run.recipe.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{run.recipe} cannot be read ({error.strerror})") from error
    last: dict[str, dict[str, Any]] = {}
    left: int | None = None
    for attempt in range(1, manifest.attempt + 1):
        for record in read_records(run.journal / f"trainer-{attempt}.jsonl", ("hello", "data", "end")):
            last[str(record["ev"])] = record
            result = record.get("result")
            if isinstance(result, dict):
                left = result.get("step", record.get("step"))
    evaluations = _evaluations(run.path / "evaluations")
    return RunFacts(run, manifest, values, recipe, last.get("hello", {}), last.get("data", {}), read_curves(run.journal), evaluations, left)


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
