"""A valid recipe as the trainer takes it: thin sections with the libraries' own names, paths made absolute.

What depends on the box (bf16, use_cpu, eval batch, …) is not filled in here: the trainer does that and writes it into the ledger.
"""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuitune.errors import UserError
from tuitune.recipe.aliases import canonical_name, twin
from tuitune.recipe.document import Document, read_document
from tuitune.recipe.problems import KeyPath
from tuitune.recipe.report import one_line
from tuitune.recipe.schema import Schema, load_schema
from tuitune.recipe.sections import AUTO_TRAINING
from tuitune.recipe.validate import validate
from tuitune.text import printable

_DATA_ENDINGS = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz", ".zst")


@dataclass
class Recipe:
    """`file` is the recipe, `base` the folder that relative paths start from. Absent sections are {} or, where absence means
    something of its own (no adapter, no quantisation), None. `lines`: line (from 1) of every key that is written.
    `output.runs` stays as written: it is relative to the workspace, not to the recipe."""

    file: Path
    base: Path
    name: str
    task: str
    model: dict[str, Any]
    quantization: dict[str, Any] | None
    peft: dict[str, Any] | None
    tokenizer: dict[str, Any]
    dataset: dict[str, list[dict[str, Any]]]
    training: dict[str, Any]
    watch: dict[str, Any] | None
    launch: dict[str, Any]
    output: dict[str, Any]
    rewards: dict[str, Any] | None = None
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def line(self, *path: str | int) -> int | None:
        """The line of a key, None when it is not written."""
        return self.lines.get(path)


def load_recipe(path: Path, *, base: Path | None = None, schema: Schema | None = None) -> Recipe:
    """Read and check a recipe. `base` is the folder for relative paths when the file is a copy (a run directory's recipe.yaml).

    Raises UserError that lists every error-severity problem as file:line:column: message.
    """
    document = read_document(path)
    errors = [problem for problem in validate(document, schema or load_schema()) if problem.severity == "error"]
    if errors:
        count = "a problem" if len(errors) == 1 else f"{len(errors)} problems"
        listed = "\n".join(one_line(problem, path) for problem in errors)
        raise UserError(f"The recipe {printable(str(path))} has {count}; nothing was started:\n{listed}")
    return from_document(document, path, base or path.parent)


def from_document(document: Document, file: Path, base: Path) -> Recipe:
    """The recipe of a document that has no error-severity problem."""
    data = document.data
    base = base.resolve()
    sections: dict[str, Any] = {name: data.get(name) for name in ("quantization", "peft", "watch")}
    dataset = data["dataset"]
    return Recipe(
        file=file,
        base=base,
        name=str(data.get("name") or re.sub(r"[^A-Za-z0-9_.-]+", "-", file.stem).strip("-._") or "run"),
        task=str(data["task"]),
        model=_model(data["model"], base),
        tokenizer=_tokenizer(data.get("tokenizer") or {}, base),
        dataset={split: [_source(source, base) for source in dataset.get(split) or []] for split in ("train", "eval")},
        training=dict(data.get("training") or {}),
        launch=dict(data.get("launch") or {}),
        output=dict(data.get("output") or {}),
        rewards=_rewards(data.get("rewards"), base),
        lines={path: document.key_span(path).line for path, entry in document.entries.items() if entry.key is not None},
        **{name: None if section is None else dict(section) for name, section in sections.items()},
    )


def canonical_training(recipe: Recipe, installed_fields: Collection[str]) -> dict[str, Any]:
    """`training:` as keyword arguments for the installed config class, whose field names are `installed_fields`.

    Of two names for one field the newest that is installed is used; keys that say `auto` where tuitune chooses are left out, as if
    they were absent. Raises UserError for a field that is not installed under any name.
    """
    arguments = {}
    for name, value in recipe.training.items():
        if value == "auto" and name in AUTO_TRAINING:
            continue
        newest = canonical_name(name)
        installed = next((known for known in (newest, twin(newest)) if known in installed_fields), None)
        if installed is None:
            where = f"{recipe.file}:{recipe.line('training', name)}"
            raise UserError(
                f"{printable(where)}: `{name}` is no field of the installed config for task {recipe.task}: run `tuitune validate`."
            )
        arguments[installed] = value
    return arguments


def resolve_path(text: str, base: Path) -> Path:
    """A path of a recipe: relative to its folder, `~` understood."""
    return Path(os.path.normpath(base / Path(text).expanduser()))


def _hub_or_local(text: str, base: Path) -> str:
    """`org/name` stays a Hub id unless there is such a directory, or it is written as a path."""
    local = resolve_path(text, base)
    return str(local) if text.startswith((".", "/", "~")) or local.exists() else text


def _model(section: Mapping[str, Any], base: Path) -> dict[str, Any]:
    model = dict(section)
    for key in ("name_or_path", "adapter"):
        if model.get(key):
            model[key] = _hub_or_local(model[key], base)
    return model


def _tokenizer(section: Mapping[str, Any], base: Path) -> dict[str, Any]:
    tokenizer = dict(section)
    template = tokenizer.get("chat_template")
    if template:
        tokenizer["chat_template"] = str(resolve_path(template, base))
    return tokenizer


def _rewards(section: Mapping[str, Any] | None, base: Path) -> dict[str, Any] | None:
    return None if section is None else {**section, "file": str(resolve_path(section["file"], base))}


def _source(section: Mapping[str, Any], base: Path) -> dict[str, Any]:
    path = str(section["path"])
    local = str(resolve_path(path, base)) if path.endswith(_DATA_ENDINGS) else _hub_or_local(path, base)
    return {**section, "path": local}
