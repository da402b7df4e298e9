"""Which keys a recipe may have: our own thin sections plus the fields of the installed training libraries.

The libraries' part is a JSON file in the cache, one per version set, made by a subprocess (`python -m tuitune.analyst.export_schema`)
that may import torch: this module and everything that uses it may not.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tuitune.errors import UserError
from tuitune.files import cache_dir, write_atomically
from tuitune.processes import our_environment
from tuitune.recipe import sections
from tuitune.recipe.aliases import HOMES, canonical_name, twin
from tuitune.recipe.problems import KeyPath
from tuitune.recipe.sections import FieldSpec
from tuitune.recipe.tasks import PROMPTED
from tuitune.text import printable
from tuitune.versions import installed

FORMAT = 1  # of the exported JSON: raise it when `from_json` reads it differently
LIBRARIES = ("trl", "transformers", "peft", "bitsandbytes", "torch")
TIME_LIMIT_S = 180.0  # a cold import of torch from a slow network disk takes a minute

_making = threading.Lock()


@dataclass(frozen=True)
class Task:
    """A kind of training: the TRL config class that `training:` is checked against."""

    name: str
    config: str
    experimental: bool = False


@dataclass(frozen=True)
class Schema:
    """Fields by section. `training` holds what all tasks share, `tasks_training` what each adds or defines differently."""

    versions: Mapping[str, str]
    tasks: Mapping[str, Task]
    training: Mapping[str, FieldSpec]
    tasks_training: Mapping[str, Mapping[str, FieldSpec]]
    peft: Mapping[str, FieldSpec]
    quantization: Mapping[str, FieldSpec]
    model: Mapping[str, FieldSpec]
    _merged: dict[str, dict[str, FieldSpec]] = field(default_factory=dict, repr=False, compare=False)

    def fields(self, path: KeyPath, task: str = "sft") -> Mapping[str, FieldSpec] | None:
        """The keys allowed in the mapping at `path` (() = top level); None where any key, or none at all, is allowed."""
        if path == ("training",):
            return self.training_fields(task)
        if path == ("peft",):
            return self.peft
        if path == ("quantization",):
            return self.quantization
        if path == ("model",):
            return self._model_fields
        return sections.OWN.get(tuple("*" if isinstance(part, int) else part for part in path))

    def field(self, path: KeyPath, task: str = "sft") -> FieldSpec | None:
        """The field at `path`, under its own or its other library version's name."""
        fields = self.fields(path[:-1], task) if path and isinstance(path[-1], str) else None
        if fields is None:
            return None
        name = str(path[-1])
        if path[-2:-1] == ("columns",) and name not in fields and task in PROMPTED:
            return FieldSpec(name, "str", "A column for the reward functions, under this name.")
        return fields.get(name) or (fields.get(canonical_name(name)) if path[0] == "training" else None)

    def training_fields(self, task: str) -> Mapping[str, FieldSpec]:
        """Every field of the task's config class (for an unknown task: of sft's), the task's own first, newest names only."""
        task = task if task in self.tasks else "sft"
        if task not in self._merged:
            own = self.tasks_training.get(task, {})
            merged = {**own, **{name: spec for name, spec in self.training.items() if name not in own}}
            self._merged[task] = _one_name_each({name: spec for name, spec in merged.items() if name not in HOMES})
        return self._merged[task]

    @cached_property
    def _model_fields(self) -> Mapping[str, FieldSpec]:
        """Our own description of the section, with the installed library's choices where it has more."""
        exported = self.model
        return {
            name: replace(spec, choices=tuple(dict.fromkeys((*spec.choices, *exported[name].choices)))) if name in exported else spec
            for name, spec in sections.OWN[("model",)].items()
        }


def _one_name_each(fields: dict[str, FieldSpec]) -> dict[str, FieldSpec]:
    """Of two names for one thing keep the newest, with the default that is in force (TRL still sets the old name's)."""
    result: dict[str, FieldSpec] = {}
    for name, spec in fields.items():
        newest = canonical_name(name)
        if newest == name:
            older = fields.get(twin(name) or "")
            default = older.default if older is not None and spec.default is None else spec.default
            result[name] = replace(spec, default=default, aliases=tuple(filter(None, [twin(name)])))
        elif newest not in fields:
            result[newest] = replace(spec, name=newest, aliases=(name,))
    return result


def from_json(document: Mapping[str, Any]) -> Schema:
    """Read what export_schema.py wrote. Raises KeyError, TypeError or ValueError when it is something else."""
    if document["format"] != FORMAT:
        raise ValueError(f"schema format {document['format']}")

    def fields(table: Mapping[str, Any]) -> dict[str, FieldSpec]:
        return {
            name: FieldSpec(
                name,
                spec["type"],
                choices=tuple(spec.get("choices", ())),
                open_choices=bool(spec.get("open_choices", False)),
                default=spec.get("default"),
                doc=spec.get("doc", ""),
                deprecated=spec.get("deprecated"),
            )
            for name, spec in table.items()
        }

    tasks = {name: Task(name, spec["config"], spec["experimental"]) for name, spec in document["tasks"].items()}
    return Schema(
        versions=dict(document["versions"]),
        tasks=tasks,
        training=fields(document["training"]),
        tasks_training={name: fields(document["tasks"][name]["fields"]) for name in tasks},
        peft=fields(document["peft"]),
        quantization=fields(document["quantization"]),
        model=fields(document["model"]),
    )


def installed_versions() -> dict[str, str]:
    """Version of each training library, "missing" where it is not installed. Reads package metadata only."""
    return {library: version or "missing" for library, version in installed(LIBRARIES).items()}


def cache_path() -> Path:
    """The cache file of the installed version set and of this exporter (it need not exist)."""
    import hashlib

    exporter = Path(__file__).parents[1] / "analyst" / "export_schema.py"
    key = json.dumps([sys.version_info[:2], sorted(installed_versions().items())]).encode() + exporter.read_bytes()
    return cache_dir() / f"schema-{hashlib.sha256(key).hexdigest()[:16]}.json"


def cached_schema() -> Schema | None:
    """The schema of the installed libraries if it was exported before and can be read: a few milliseconds, never raises."""
    try:
        return from_json(json.loads(cache_path().read_bytes()))
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return None


def load_schema(
    progress: Callable[[str], None] | None = None, *, time_limit_s: float = TIME_LIMIT_S, cancel: threading.Event | None = None
) -> Schema:
    """The schema from the cache, or freshly exported (6 s, a minute on a slow disk), then cached.

    Safe to call from a thread: `progress` gets one sentence, `cancel` stops the subprocess. Raises UserError with the reason when the
    export fails, takes longer than `time_limit_s` or is cancelled.
    """
    with _making:
        schema = cached_schema()
        if schema is not None:
            return schema
        if progress is not None:
            progress("reading the options of the installed trl, transformers and peft (once for each version set)")
        text = _export(time_limit_s, cancel)
        try:
            schema = from_json(json.loads(text))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"The options of the installed training libraries could not be understood ({error!r}): reinstall tuitune."
            raise UserError(message) from error
        try:
            write_atomically(cache_path(), text)
        except OSError:
            pass  # a full or read-only cache costs the next start 6 s, nothing else
        return schema


def _export(time_limit_s: float, cancel: threading.Event | None) -> bytes:
    """Run the exporter; its standard output."""
    import subprocess

    command = [sys.executable, "-P", "-m", "tuitune.analyst.export_schema"]
    environment = {**our_environment(), "TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    deadline = time.monotonic() + time_limit_s
    while True:
        try:
            output, errors = process.communicate(timeout=0.1)
            break
        except subprocess.TimeoutExpired:
            stopped = cancel is not None and cancel.is_set()
            if not stopped and time.monotonic() < deadline:
                continue
            process.kill()
            process.communicate()
            if stopped:
                raise UserError("Reading the options of the installed training libraries was cancelled.") from None
            raise UserError(
                f"Reading the options of the installed training libraries took longer than {time_limit_s:.0f} s: "
                "run `python -m tuitune.analyst.export_schema` to see where it stops."
            ) from None
    if process.returncode != 0:
        lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
        reason = printable(lines[-1], limit=300) if lines else f"exit code {process.returncode}"
        raise UserError(
            f"The options of the installed training libraries could not be read: {reason} "
            "(install them with `pip install -c constraints.txt -e .`)."
        )
    return output
