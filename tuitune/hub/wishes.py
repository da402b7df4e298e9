"""What a run's own recipe says to its hub: which GPUs, which retries, which batch."""

from collections.abc import Mapping
from typing import Any

from tuitune.errors import UserError
from tuitune.hub.retry import ACCUMULATION, BATCH
from tuitune.recipe.devices import wants_cpu
from tuitune.recipe.document import read_document
from tuitune.recipe.ledger import read_ledger
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Manifest

WITHOUT_GPU = frozenset({"sweep", "push"})  # jobs that compute nothing themselves


def wanted_gpus(run: RunDirectory, manifest: Manifest | None = None) -> object:
    """The value of `launch.gpus`, or "cpu". A job takes one GPU at most, and its own argument `gpus` wins over its recipe's. UserError
    with the place when the recipe is no YAML."""
    launch, training = section(run, "launch"), section(run, "training")
    if manifest is None or manifest.kind == "train":
        return "cpu" if wants_cpu(launch, training) else launch.get("gpus")
    if "gpus" in manifest.job:
        return manifest.job["gpus"]
    return "cpu" if wants_cpu(launch, training) else "auto"


def section(run: RunDirectory, name: str) -> dict[str, Any]:
    """A section of the recipe, empty when there is none. UserError with the place when the recipe is no YAML."""
    document = read_document(run.recipe)
    error = next((problem for problem in document.problems if problem.severity == "error"), None)
    if error is not None:
        raise UserError(f"{run.recipe}:{error.line}:{error.column}: {error.message}")
    found = document.data.get(name)
    return found if isinstance(found, dict) else {}


def batch_of(run: RunDirectory, overrides: Mapping[str, Mapping[str, Any]]) -> tuple[int, int] | None:
    """(per_device_train_batch_size, gradient_accumulation_steps) of the present attempt: by its overrides, else as the trainer read them
    back (effective.json), else as the recipe says; None when one of them is nowhere."""
    try:
        effective = {entry.key: entry.value for entry in read_ledger(run.effective) if entry.section == "training"}
    except UserError:  # the trainer did not get so far
        effective = {}
    sources = (overrides.get("training", {}), effective, section(run, "training"))
    rows, accumulation = (next((source[key] for source in sources if _is_count(source.get(key))), None) for key in (BATCH, ACCUMULATION))
    return None if rows is None or accumulation is None else (rows, accumulation)


def keep_batch(manifest: Manifest, applied: Mapping[str, Any]) -> None:
    """Take a batch that was changed while the run lives (an `applied` record of `reshape`) over into later attempts."""
    new = applied.get("new")
    if applied.get("op") == "reshape" and applied.get("ok") is not False and isinstance(new, Mapping):
        changed = {key: new[key] for key in (BATCH, ACCUMULATION) if _is_count(new.get(key))}
        manifest.overrides.setdefault("training", {}).update(changed)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
