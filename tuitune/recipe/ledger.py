"""The effective-config ledger (`effective.json` of a run): every value that was in force and where it came from.

The trainer writes it, read back from the trainer it built; the workbench and the comparison of runs read it.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tuitune.errors import UserError
from tuitune.files import write_atomically
from tuitune.text import printable

Source = Literal["recipe", "default", "adjusted"]


@dataclass(frozen=True)
class LedgerEntry:
    """One value. `source`: written in the recipe (then `line`), the library's default, or adjusted by tuitune (then `why`)."""

    section: str
    key: str
    value: Any
    source: Source
    line: int | None = None
    why: str | None = None


def write_ledger(path: Path, entries: Iterable[LedgerEntry]) -> None:
    """Write `effective.json`, whole or not at all. Values that JSON cannot say are written as text."""
    values = [{**asdict(entry), "value": _plain(entry.value)} for entry in entries]
    write_atomically(path, json.dumps({"schema": 1, "values": values}, indent=1, ensure_ascii=False) + "\n")


def read_ledger(path: Path) -> list[LedgerEntry]:
    """The entries of an `effective.json`. Raises UserError when it is missing or damaged."""
    try:
        document = json.loads(path.read_bytes())
        return [LedgerEntry(**entry) for entry in document["values"]]
    except OSError as error:
        raise UserError(f"The effective settings {printable(str(path))} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"The effective settings {printable(str(path))} are damaged: the run's recipe.yaml still says what was asked."
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(str(item) for item in value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
