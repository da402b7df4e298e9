"""The run directory: everything about a run is in it, and its layout is a contract (DESIGN.md, section 5)."""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from tuitune.errors import UserError
from tuitune.files import write_atomically


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run; making the object touches nothing."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name, which is the run's id: `<name>-<YYYYmmdd-HHMMSS>`."""
        return self.path.name

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def effective(self) -> Path:
        return self.path / "effective.json"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def commands(self) -> Path:
        return self.path / "commands"

    @property
    def connection(self) -> Path:
        return self.path / "connection.json"

    @property
    def lock(self) -> Path:
        """Held (flock) by the run's hub as long as it lives."""
        return self.path / "hub.lock"

    @property
    def trainer_lock(self) -> Path:
        """Held (flock) as long as a trainer of the run or one of its workers lives, whatever became of the hub."""
        return self.path / "trainer.lock"


def runs_folder(workspace: Path) -> Path:
    """Where all runs of a workspace are found: their directories, and links to those that `output.runs` put elsewhere."""
    return workspace / "runs"


def create_workspace_run(workspace: Path, runs: str, name: str, recipe_text: str) -> RunDirectory:
    """A new run of a workspace in the folder `runs` (`output.runs`, relative to the workspace). UserError when the disk refuses."""
    index, root = runs_folder(workspace), (workspace / os.path.expanduser(runs)).resolve()
    if root == index.resolve():
        return create_run(index, name, recipe_text)
    return create_run(root, name, recipe_text, index=index)


def create_run(root: Path, name: str, recipe_text: str, *, index: Path | None = None) -> RunDirectory:
    """A new run directory (0700) under `root` with the recipe in it, and a link to it in `index`. UserError when the disk refuses."""
    stem = f"{_safe(name)}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        for folder in (root, index or root):
            folder.mkdir(parents=True, exist_ok=True)
        run = RunDirectory(_new_folder(root, stem, index))
        for folder in (run.journal, run.log, run.samples, run.checkpoints, run.commands):
            folder.mkdir(mode=0o700)
        write_atomically(run.recipe, recipe_text, mode=0o600)
    except OSError as error:
        raise UserError(
            f"{error.filename2 or root}: the run directory cannot be made ({error.strerror}); "
            "make room there or set output.runs to a folder you may write"
        ) from error
    return run


def _new_folder(root: Path, stem: str, index: Path | None) -> Path:
    for number in range(1, 1000):
        path = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        if index is None or _linked(index, path):
            return path
    raise FileExistsError(17, "a thousand runs of this name were started within a second", str(root / stem))


def _linked(index: Path, path: Path) -> bool:
    """Link to a new run in `index`; False, with the run's folder gone again, when the name is taken there."""
    try:
        (index / path.name).symlink_to(os.path.relpath(path, index.resolve()))
    except OSError as error:
        path.rmdir()
        if not isinstance(error, FileExistsError):
            raise
        return False
    return True


def _safe(name: str) -> str:
    """A recipe's name as a folder name: letters, digits, `.`, `_` and `-`, at most 60 of them."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.")[:60].rstrip("-.") or "run"
