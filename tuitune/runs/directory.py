"""The run directory: everything about a run is in it, and its layout is a contract (DESIGN.md, section 5)."""

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


def create_run(root: Path, name: str, recipe_text: str) -> RunDirectory:
    """A new run directory (0700) under `root` with the recipe in it. UserError when the disk refuses."""
    stem = f"{_safe(name)}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        run = RunDirectory(_new_folder(root, stem))
        for folder in (run.journal, run.log, run.samples, run.checkpoints, run.commands):
            folder.mkdir(mode=0o700)
        write_atomically(run.recipe, recipe_text, mode=0o600)
    except OSError as error:
        raise UserError(
            f"{root}: the run directory cannot be made ({error.strerror}); make room there or set output.runs to a folder you may write"
        ) from error
    return run


def _new_folder(root: Path, stem: str) -> Path:
    for number in range(1, 1000):
        path = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(17, "a thousand runs of this name were started within a second", str(root / stem))


def _safe(name: str) -> str:
    """A recipe's name as a folder name: letters, digits, `.`, `_` and `-`, at most 60 of them."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.")[:60].rstrip("-.") or "run"
