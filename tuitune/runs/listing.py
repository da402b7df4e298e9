"""The runs of a workspace: the list that `tuitune runs` and the runs table show, and finding one by what a person types."""

import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory, runs_folder
from tuitune.runs.manifest import LIVING, LOST, read_manifest

START_S = 10.0  # a run directory may be this old before it must have a manifest


@dataclass(frozen=True)
class RunSummary:
    """One run in a list. `state` is corrected by liveness; `why` explains a failed or unreadable one; times are unix seconds; `kind` is
    "train", or which job it is, whose `step` and `max_steps` are its progress."""

    id: str
    path: Path
    name: str
    state: str
    step: int | None = None
    max_steps: int | None = None
    loss: float | None = None
    created: float | None = None
    ended: float | None = None
    why: str | None = None
    recipe_path: str = ""
    kind: str = "train"

    @property
    def alive(self) -> bool:
        """Whether it trains (or pauses, saves …) right now."""
        return self.state in LIVING

    def as_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        return {**asdict(self), "path": str(self.path)}


def list_runs(root: Path) -> list[RunSummary]:
    """All runs under `root`, newest first; a run whose manifest is missing or damaged is listed as "unreadable".

    A run that is only linked there (`output.runs` put it elsewhere) has its own path; a link to a run that is gone is passed over.
    """
    try:
        folders = dict.fromkeys(path.resolve() if path.is_symlink() else path for path in root.iterdir() if path.is_dir())
    except OSError:
        return []
    found = [summary for path in folders if (summary := summarize(RunDirectory(path)))]
    return sorted(found, key=lambda run: (run.created or 0.0, run.id), reverse=True)


def summarize(run: RunDirectory) -> RunSummary | None:
    """One run's line in the list, or None when the folder is no run at all."""
    if not run.manifest.exists() and not run.journal.is_dir():
        return None
    try:
        manifest = read_manifest(run)
    except UserError as error:
        made = _made(run)
        young = not run.manifest.exists() and made is not None and time.time() - made < START_S
        state, why = ("starting", None) if young else ("unreadable", str(error))
        return RunSummary(id=run.name, path=run.path, name=run.name, state=state, created=made, why=why)
    state = manifest.living_state()
    why = manifest.why
    if state == "lost":
        why = LOST
    return RunSummary(
        id=run.name,
        path=run.path,
        name=manifest.name,
        state=state,
        step=manifest.step,
        max_steps=manifest.max_steps,
        loss=manifest.loss,
        created=manifest.created,
        ended=manifest.ended,
        why=why,
        recipe_path=manifest.recipe_path,
        kind=manifest.kind,
    )


def _made(run: RunDirectory) -> float | None:
    """About when a run began whose manifest does not say it."""
    try:
        return run.path.stat().st_mtime
    except OSError:
        return None


def find_run(root: Path, text: str) -> RunDirectory:
    """The run a person means: a path, an id, a unique beginning of one, or the recipe's name when one run of it lives.

    UserError names the candidates.
    """
    as_path = Path(text)
    if RunDirectory(as_path).manifest.exists():
        return RunDirectory(as_path.resolve())
    runs = list_runs(root)
    matching = [run for run in runs if run.id == text] or [run for run in runs if run.id.startswith(text)]
    living = [run for run in matching if run.alive]
    if len(matching) != 1 and len(living) == 1:
        matching = living
    if len(matching) == 1:
        return RunDirectory(matching[0].path.resolve())
    if matching:
        raise UserError(f"{text!r} can be {_names([run.id for run in matching])}; name more of it")
    known = f"there are {_names([run.id for run in runs])}" if runs else "there are none yet: tuitune train RECIPE starts one"
    raise UserError(f"no run {text!r} in {root}: {known}")


def reference(run: RunDirectory, folder: Path) -> str:
    """What to type in `folder` to mean this run: its id where the folder's runs have it, else its path."""
    path = run.path.resolve()
    if (runs_folder(folder) / run.name).resolve() == path:
        return run.name
    return shlex.quote(str(path.relative_to(folder.resolve()) if path.is_relative_to(folder.resolve()) else path))


def _names(ids: list[str]) -> str:
    return ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
