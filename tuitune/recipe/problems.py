"""What can be wrong with a recipe, and the edits that put it right. Plain data; imports nothing of tuitune.

The codes are stable: they may be searched for, switched on in tests and quoted in issues. A new kind of problem gets a new code.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]
KeyPath = tuple[str | int, ...]  # ("dataset", "train", 0, "path")

CODES = {
    "RCP001": "the text is not YAML",
    "RCP002": "the file is not UTF-8",
    "RCP003": "a tab indents a line",
    "RCP004": "a key is given twice",
    "RCP005": "the recipe is empty",
    "RCP006": "the recipe is not a list of `key: value` lines",
    "RCP007": "the file is too large, too deep or grows through aliases",
    "RCP008": "the file begins with a byte order mark",
    "RCP009": "YAML that a recipe does not use (tags, several documents, keys that are not words)",
    "RCP010": "something required is missing",
    "RCP011": "an unknown key",
    "RCP012": "a key that was renamed or removed",
    "RCP013": "a value that belongs to another section",
    "RCP014": "two keys that contradict each other",
    "RCP015": "a value of the wrong type",
    "RCP016": "a value that is not one of the choices",
    "RCP017": "a number out of range",
    "RCP018": "an unknown task",
    "RCP019": "an experimental task",
    "RCP020": "a deprecated option",
    "RCP021": "dataset columns that do not go together",
    "RCP022": "`auto` where nothing can be chosen automatically",
    "RCP023": "an empty section",
    "RCP024": "a name that cannot name a folder",
    "RCP025": "something that this version does not do yet",
    "RCP026": "a new token that cannot be one",
}


@dataclass(frozen=True)
class Edit:
    """Replace `text[start:end]` (offsets in characters) by `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Fix:
    title: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Problem:
    """One finding. Lines and columns count from 1; (end_line, end_column) is the first position after the marked text."""

    code: str
    severity: Severity
    message: str
    line: int
    column: int
    end_line: int
    end_column: int
    path: KeyPath = ()
    fix: Fix | None = None


def apply_fix(text: str, fix: Fix) -> str:
    """`text` with the edits of `fix` made; every other character stays as it is. Edits may come in any order, not overlapping."""
    return apply_edits(text, fix.edits)


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """As `apply_fix`, for bare edits. Raises ValueError when two edits overlap (a bug of the caller)."""
    limit = len(text)
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end), reverse=True):
        if not 0 <= edit.start <= edit.end <= limit:
            raise ValueError(f"overlapping or misplaced edit {edit}")
        text = text[: edit.start] + edit.text + text[edit.end :]
        limit = edit.start
    return text


def dotted(path: KeyPath) -> str:
    """A path as people write it: dataset.train[0].columns"""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
