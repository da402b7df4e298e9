"""What a folder holds that a fine-tuner works with: recipes, data, models, runs, and other small text files.

`scan` is called in a thread, never follows a loop of links, and stops at bounds that it names. Imports nothing of Textual.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAX_DEPTH, MAX_ENTRIES, MAX_PER_SECTION = 6, 20_000, 2_000
SKIPPED = {"node_modules", "__pycache__", "venv", "env", "site-packages", "wandb", "build", "dist"}
DATA_SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".csv", ".csv.gz", ".tsv", ".parquet", ".arrow", ".json.gz")
TEXT_SUFFIXES = (".md", ".txt", ".jinja", ".jinja2", ".toml", ".yaml", ".yml", ".json", ".py", ".sh")
# A model is a folder with one of these; what is inside is the model's, not a recipe or a data set.
MODEL_MARKS = ("config.json", "adapter_config.json")
RUN_MARKS = {"manifest.json", "journal"}  # a run is a folder with both
NOT_DATA = {"package.json", "package-lock.json", "tsconfig.json", "settings.json", "effective.json", "manifest.json", "connection.json"}
_RECIPE_KEY = re.compile(rb"^(?:model|training|dataset|peft|quantization|task)[ \t]*:", re.MULTILINE)
_RECIPE_HEAD = 64 << 10  # bytes of a YAML file that are read to see whether it is a recipe


@dataclass(frozen=True)
class Workspace:
    """One look at a folder; paths are absolute and sorted. `directories` maps the folders seen to their mtime_ns."""

    root: Path
    recipes: tuple[Path, ...] = ()
    data: tuple[Path, ...] = ()
    models: tuple[Path, ...] = ()
    texts: tuple[Path, ...] = ()
    directories: dict[str, int] = field(default_factory=dict, compare=False)
    notes: tuple[str, ...] = ()

    def relative(self, path: Path) -> str:
        """The path as shown: relative to the folder where that is shorter."""
        try:
            return str(path.relative_to(self.root))
        except ValueError:
            return str(path)


def scan(root: Path, runs_root: Path) -> Workspace:
    """Look at the folder. Unreadable folders are left out and named in `notes`; never raises."""
    found: dict[str, list[Path]] = {"recipes": [], "data": [], "models": [], "texts": []}
    directories: dict[str, int] = {}
    notes: list[str] = []
    for path in _files(root, runs_root, found["models"], directories, notes):
        if section := _section(path):
            found[section].append(path)
    for section, paths in found.items():
        paths.sort(key=lambda path: (len(path.parts), str(path).casefold()))
        if len(paths) > MAX_PER_SECTION:
            notes.append(f"{section}: {len(paths):,} found, the first {MAX_PER_SECTION:,} are listed")
            del paths[MAX_PER_SECTION:]
    return Workspace(root, **{name: tuple(paths) for name, paths in found.items()}, directories=directories, notes=tuple(notes))


def changed(workspace: Workspace) -> bool:
    """Whether a folder that was seen has new, gone or renamed entries: one stat a folder."""
    return any(_mtime(folder) != mtime for folder, mtime in workspace.directories.items())


def _files(root: Path, runs_root: Path, models: list[Path], directories: dict[str, int], notes: list[str]) -> Iterator[Path]:
    """Files breadth first; folders that are models are put into `models` and not entered."""
    waiting, seen, count = [(root, 0)], set(), 0
    while waiting:
        folder, depth = waiting.pop(0)
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as iterator:
                entries = [entry for _, entry in zip(range(MAX_ENTRIES - count + 1), iterator)]
        except OSError as error:
            notes.append(f"{folder} cannot be read: {error.strerror}")
            continue
        directories[str(folder)] = status.st_mtime_ns
        count += len(entries)
        names = {entry.name for entry in entries}
        if folder != root and names >= RUN_MARKS:
            continue  # a run that output.runs put here, or one of a workspace inside this one
        if folder != root and any(mark in names for mark in MODEL_MARKS):
            models.append(folder)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = folder / entry.name
            if not _is_folder(entry):
                yield path
            elif entry.name not in SKIPPED and path != runs_root and depth < MAX_DEPTH:
                waiting.append((path, depth + 1))
        if count > MAX_ENTRIES:
            notes.append(f"only the first {MAX_ENTRIES:,} entries of {root} were looked at")
            return


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _section(path: Path) -> str | None:
    name = path.name.lower()
    if name.endswith((".yaml", ".yml")):
        return "recipes" if _looks_like_recipe(path) else "texts"
    if name.endswith(DATA_SUFFIXES):
        return "data"
    if name.endswith(".json") and name not in NOT_DATA and not name.endswith("config.json"):
        return "data"
    return "texts" if name.endswith(TEXT_SUFFIXES) else None


def _looks_like_recipe(path: Path) -> bool:
    """A section of ours at the start of a line, or an empty file: broken YAML is still a recipe to repair."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(_RECIPE_HEAD)
    except OSError:
        return False
    return not head.strip() or _RECIPE_KEY.search(head) is not None


def _mtime(folder: str) -> int | None:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return None


def run_view(run: Path) -> str:
    """The kind of view for a run directory: "run" for a training, "chat" or "job" for a job. Reads its manifest."""
    from tuitune.errors import UserError
    from tuitune.runs.directory import RunDirectory
    from tuitune.runs.manifest import read_manifest

    try:
        kind = read_manifest(RunDirectory(run)).kind
    except UserError:
        return "run"  # its dashboard says what is wrong with it
    return "run" if kind == "train" else "chat" if kind == "chat" else "job"


def kind_of(path: Path) -> str:
    """The kind of view that opens a file or folder: "recipe", "data", "run" or "text"."""
    if path.is_dir():
        return "run" if (path / "manifest.json").exists() or (path / "journal").is_dir() else "text"
    section = _section(path)
    if section == "recipes":
        return "recipe"
    return "data" if section == "data" else "text"
