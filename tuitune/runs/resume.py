"""How a run that has ended or died goes on: whether it may, from which checkpoint, and what its manifest says then."""

import os
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tuitune.errors import UserError
from tuitune.runs.checkpoints import checkpoints_of, damage, marked_files, step_of
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import ENDED, Manifest
from tuitune.text import printable

SHOWN = 4  # names in a sentence


@dataclass(frozen=True)
class StartingPoint:
    """Where an attempt starts: the name of a checkpoint folder, or None for the beginning, and a few words that say which and why.
    `passed_over`: of each later one that was whole once, which file is not what was written, in a sentence."""

    checkpoint: str | None
    words: str
    passed_over: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """The optimizer steps that are done there."""
        return step_of(Path(self.checkpoint)) or 0 if self.checkpoint else 0


def starting_point(run: RunDirectory, *, hashes: bool = False) -> StartingPoint:
    """The newest whole checkpoint, by the sizes of its files or, with `hashes`, by all that is in them (some 1.3 s a GiB). UserError when
    the folder cannot be read: from the beginning would throw away what may be there."""
    try:
        found = checkpoints_of(run)
    except OSError as error:
        raise UserError(f"{run.checkpoints} cannot be read ({error.strerror}): mend that and resume the run again") from error
    whole, damaged, passed_over = None, [], []
    for folder in found:
        files = marked_files(folder)
        differs = None if files is None else damage(folder, files, hashes=hashes)
        if files is not None and differs is None:
            whole = folder
            break
        damaged.append(folder.name)
        passed_over += [differs] if differs else []
    names = ", ".join(damaged[:SHOWN]) + (f" and {len(damaged) - SHOWN} more" if len(damaged) > SHOWN else "")
    if whole is None:
        why = f"none of its checkpoints is whole ({names})" if damaged else "it has no checkpoint yet"
        return StartingPoint(None, f"from the beginning: {why}", tuple(passed_over))
    later = f" ({names} {'is' if len(damaged) == 1 else 'are'} later, but not whole)" if damaged else ""
    return StartingPoint(whole.name, f"from {whole.name}{later}", tuple(passed_over))


def go_back(run: RunDirectory, name: str) -> list[str]:
    """Make the checkpoint of this name ("checkpoint-10", or "10") the newest: later ones go into checkpoints/aside, and their names are
    returned. Reads it through (some 1.3 s a GiB). UserError, and nothing is changed, when it is not there or not what was written."""
    found = checkpoints_of(run)
    chosen = next((folder for folder in found if name in (folder.name, str(step_of(folder)))), None)
    if chosen is None:
        names = ", ".join(folder.name for folder in found[:SHOWN]) or "none"
        raise UserError(f"it has no {printable(name if name.startswith('checkpoint') else f'checkpoint-{name}', limit=80)}; it has {names}")
    files = marked_files(chosen)
    differs = f"{chosen.name} was never finished" if files is None else damage(chosen, files, hashes=True)
    if differs is not None:
        raise UserError(f"{differs}; choose another, or leave it to tuitune resume, which takes the newest whole one")
    later = found[: found.index(chosen)]
    aside = run.checkpoints / "aside"
    try:
        for folder in later:
            aside.mkdir(exist_ok=True)
            folder.rename(_free(aside / folder.name))
    except OSError as error:
        raise UserError(f"{error.filename or aside}: a later checkpoint cannot be set aside ({error.strerror})") from error
    return [folder.name for folder in later]


def _free(path: Path) -> Path:
    """This path, or with a number behind it when it is taken."""
    numbered = (path.with_name(f"{path.name}.{number}") for number in count(2))
    return path if not path.exists() else next(other for other in numbered if not other.exists())


def refusal(manifest: Manifest) -> str | None:
    """Why a run of which no process lives has nothing to go on with, in one sentence."""
    if manifest.host != os.uname().nodename and manifest.state not in ENDED:
        return f"by its manifest it is {manifest.state} on {manifest.host}: look there first (tuitune runs)"
    if manifest.kind == "chat":
        return "a chat's turns are gone with its process: start another one (tuitune chat)"
    if manifest.kind != "train":
        return f"this {manifest.kind} is done: start another one (tuitune {manifest.kind})" if manifest.state == "done" else None
    if manifest.state == "done" and manifest.max_steps is not None and (manifest.step or 0) >= manifest.max_steps:
        return f"it has done all of its {manifest.max_steps} steps: for more of them start a new run (tuitune train RECIPE)"
    return None


def begin_attempt(run: RunDirectory, manifest: Manifest, point: StartingPoint, overrides: dict[str, Any] | None = None) -> None:
    """Change the manifest for the next attempt. One that never got as far as a trainer keeps its number; earlier overrides stay."""
    if (run.journal / f"trainer-{manifest.attempt}.jsonl").exists() or log_of(run, manifest.attempt).exists():
        manifest.attempt += 1
    manifest.resume_from, manifest.passed_over = point.checkpoint, list(point.passed_over)
    for section, values in (overrides or {}).items():
        manifest.overrides.setdefault(section, {}).update(values)
    manifest.state, manifest.why, manifest.ended, manifest.trainer = "starting", None, None, None
    manifest.step = point.step or None


def log_of(run: RunDirectory, attempt: int) -> Path:
    """What the attempt's first rank prints."""
    return run.log / f"{attempt}.rank0.txt"


def rank_log(first: Path, rank: int | str, ends: str = "txt") -> Path:
    """The file of another rank beside the first one's log."""
    return first.with_name(f"{first.name.removesuffix('.rank0.txt')}.rank{rank}.{ends}")


def ends_of(run: RunDirectory, attempt: int, node: int = 0) -> Path:
    """How the attempt's processes on a machine (0: the hub's) ended, where it has several and one of them failed."""
    return run.log / (f"{attempt}.node{node}.ends.json" if node else f"{attempt}.ends.json")
