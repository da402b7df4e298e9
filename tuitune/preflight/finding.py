"""What a check finds: where, what it means, the evidence, a repair. Plain data that crosses processes as JSON."""

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from tuitune.errors import NotHere as NotHere  # part of what checks say; its home is where reading files needs no msgspec
from tuitune.recipe.problems import Edit, KeyPath, Severity

View = Literal["recipe", "dataset", "tokens", "template", "alignment", ""]  # the workbench's view that shows it


@dataclass(frozen=True)
class Where:
    """A place. `file` absolute; lines and columns from 1; `row` of the split, from 0; `key` of the recipe, as people write it."""

    file: str = ""
    line: int | None = None
    column: int | None = None
    split: str = ""
    row: int | None = None
    key: str = ""
    view: View = ""


@dataclass(frozen=True)
class Change:
    """One change of a recipe: the value at `path` becomes `value`; None as `value` with `remove` takes the key out."""

    path: KeyPath
    value: Any = None
    remove: bool = False


@dataclass(frozen=True)
class NewFile:
    """A text file to be written; `path` relative to the recipe's folder. An existing file is never overwritten."""

    path: str
    text: str


@dataclass(frozen=True)
class DataCopy:
    """A repaired copy of one source's file, written beside it and named in the recipe instead of it.

    `source`: its number under dataset.<split>; `drop`: numbers of the file's rows (from 0, unreadable ones counted) that are left out;
    `steps`: names of data_steps.STEPS, applied to every row in the order they have there; `options`: what a step needs to know.
    """

    split: str
    source: int
    drop: tuple[int, ...] = ()
    steps: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fix:
    """`automatic`: `--fix` applies it without a question; otherwise it is proposed and waits for a yes. All parts are applied together.

    `edits` are of the recipe's text as it was checked; a check that does not look at the text itself says `changes`.
    """

    title: str
    automatic: bool = False
    edits: tuple[Edit, ...] = ()
    changes: tuple[Change, ...] = ()
    files: tuple[NewFile, ...] = ()
    copies: tuple[DataCopy, ...] = ()


@dataclass(frozen=True)
class Found:
    """What a check yields. `message`: one sentence with the consequence, then what to do; `severity`: None takes the check's own."""

    message: str
    where: Where = Where()
    evidence: dict[str, Any] = field(default_factory=dict)
    fix: Fix | None = None
    severity: Severity | None = None


@dataclass(frozen=True)
class Finding:
    """A finding as it is reported."""

    id: str
    severity: Severity
    title: str
    message: str
    where: Where = Where()
    evidence: dict[str, Any] = field(default_factory=dict)
    fix: Fix | None = None


def from_json(document: Any) -> Finding:
    """The finding of its JSON form. msgspec.ValidationError for anything else."""
    return msgspec.convert(document, Finding)


def as_json(finding: Finding) -> dict[str, Any]:
    """The JSON form: the contract of `tuitune check --json`."""
    made: dict[str, Any] = msgspec.to_builtins(finding, str_keys=True)
    return made
