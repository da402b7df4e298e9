"""A recipe's text as a document: plain data, the position of every key and value, and what is wrong with it as YAML.

`parse` never raises. What the values mean is judged by validate.py.
"""

import bisect
import codecs
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuitune.errors import UserError
from tuitune.recipe.edits import removal
from tuitune.recipe.problems import Edit, Fix, KeyPath, Problem
from tuitune.recipe.yaml_reader import MAX_CHARACTERS, Entry, Fault, read
from tuitune.text import printable


@dataclass(frozen=True)
class Span:
    """A stretch of text: lines and columns from 1 (columns in characters), the end exclusive; `start` and `end` are offsets."""

    line: int
    column: int
    end_line: int
    end_column: int
    start: int
    end: int


@dataclass
class Document:
    text: str
    file: Path | None
    data: dict[str, Any]
    entries: dict[KeyPath, Entry] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _line_starts: list[int] = field(default_factory=list, repr=False)

    @property
    def broken_from(self) -> int | None:
        """The line from which on the text could not be read as YAML; None when all of it could."""
        lines = [problem.line for problem in self.problems if problem.severity == "error" and problem.code != "RCP004"]
        return min(lines, default=None)

    @property
    def readable(self) -> bool:
        """Whether the text is YAML down to its end, so that what is not in `data` is really not there."""
        return self.broken_from is None

    @property
    def spans(self) -> dict[KeyPath, tuple[Span | None, Span]]:
        """KeyPath → (span of the key or None, span of the value), for everything that is written in the text."""
        return {path: (self.span_at(*entry.key) if entry.key else None, self.span_at(*entry.value)) for path, entry in self.entries.items()}

    def span_at(self, start: int, end: int) -> Span:
        starts = self._line_starts
        line, end_line = bisect.bisect_right(starts, start), bisect.bisect_right(starts, end)
        return Span(line, start - starts[line - 1] + 1, end_line, end - starts[end_line - 1] + 1, start, end)

    def entry(self, path: KeyPath) -> Entry:
        """The entry of `path`, or of the nearest thing around it that is written (values behind an alias are at the alias)."""
        while path not in self.entries and path:
            path = path[:-1]
        return self.entries.get(path, Entry(None, (0, 0), "mapping"))

    def key_span(self, path: KeyPath) -> Span:
        entry = self.entry(path)
        return self.span_at(*(entry.key or entry.value))

    def value_span(self, path: KeyPath) -> Span:
        """The value's span; the key's where nothing is written as value."""
        entry = self.entry(path)
        return self.span_at(*(entry.key if entry.style == "empty" and entry.key else entry.value))

    def editable(self, path: KeyPath) -> bool:
        """Whether the value of `path` is written in place, so that an edit of it changes nothing else (not behind an alias)."""
        entry = self.entries.get(path)
        return (
            entry is not None
            and entry.style != "alias"
            and all(self.entries.get(path[:depth], entry).style != "alias" for depth in range(len(path)))
        )


def parse(text: str, file: Path | None = None) -> Document:
    """Read `text`. Whatever is wrong with it is in `problems`; `data` holds what could be understood ({} when it is no mapping)."""
    document = Document(text, file, {})
    document._line_starts = [0, *(index + 1 for index, char in enumerate(text) if char == "\n")]
    if len(text) > MAX_CHARACTERS:
        message = f"the file has {len(text):,} characters; a recipe may have {MAX_CHARACTERS:,}: is this a data file?"
        document.problems.append(_problem(document, Fault("RCP007", message, 0, 0)))
        return document
    if text.startswith(codecs.BOM_UTF8.decode()):
        fix = Fix("Remove the byte order mark", (Edit(0, 1, ""),))
        message = "the file begins with an invisible byte order mark: remove it"
        document.problems.append(_problem(document, Fault("RCP008", message, 0, 1), fix, "warning"))
    reading = read(text)
    document.entries = reading.entries
    for fault in reading.faults:
        document.problems.append(_problem(document, fault, _fix(text, fault, reading.entries)))
    if isinstance(reading.data, dict):
        document.data = reading.data
    elif not reading.faults:
        document.problems.append(_problem(document, _not_a_mapping(reading.data, text)))
    document.problems.sort(key=lambda problem: (problem.line, problem.column))
    return document


def read_document(path: Path) -> Document:
    """Read a recipe file. Raises UserError when it cannot be opened; wrong encoding is a problem in the document."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"The recipe {printable(str(path))} is no regular file.")
        with path.open("rb") as file:
            raw = file.read(4 * MAX_CHARACTERS + 1)
    except OSError as error:
        raise UserError(f"The recipe {printable(str(path))} cannot be read: {error.strerror}.") from error
    return decode(raw, path)


def decode(raw: bytes, file: Path | None = None) -> Document:
    """The document of a file's bytes; bytes that are not UTF-8 are reported with their offset and shown as U+FFFD."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        document = parse("", file)
        fault = Fault("RCP002", "the file is saved as UTF-16: save it as UTF-8", 0, 0)
        document.problems = [_problem(document, fault)]
        return document
    try:
        return parse(raw.decode(), file)
    except UnicodeDecodeError as error:
        before = len(raw[: error.start].decode())
        document = parse(raw.decode(errors="replace"), file)
        message = f"byte {error.start:,} of the file (0x{raw[error.start]:02x}) is not UTF-8: save the file as UTF-8"
        document.problems = [_problem(document, Fault("RCP002", message, before, before + 1))]
        return document


def _problem(document: Document, fault: Fault, fix: Fix | None = None, severity: str = "error") -> Problem:
    size = len(document.text)
    span = document.span_at(min(fault.start, size), min(fault.end, size))
    return Problem(fault.code, severity, fault.message, span.line, span.column, span.end_line, span.end_column, fault.path, fix)  # type: ignore[arg-type]


def _fix(text: str, fault: Fault, entries: dict[KeyPath, Entry]) -> Fix | None:
    if fault.missing_blank is not None:
        return Fix("Put a blank after the `:`", (Edit(fault.missing_blank, fault.missing_blank, " "),))
    if fault.code == "RCP003":
        return _tabs_to_blanks(text, fault.start)
    if fault.code == "RCP004" and fault.repeated is not None:
        edit = removal(text, fault.repeated, flow=entries.get(fault.path[:-1], fault.repeated).style == "flow mapping")
        return Fix(f"Remove this second `{fault.path[-1]}`", (edit,)) if edit else None
    return None


def _tabs_to_blanks(text: str, at: int) -> Fix:
    """Indentation with tabs in it becomes steps of two blanks, in all lines; a tab elsewhere (at `at`) one blank."""
    edits, offset = [], 0
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip(" \t"))]
        if "\t" in indent and line.strip():
            edits.append(Edit(offset, offset + len(indent), "  " * (len(indent.expandtabs(2)) // 2)))
        offset += len(line) + 1
    if not any(edit.start <= at < edit.end for edit in edits):
        edits.append(Edit(at, at + 1, " "))
    return Fix("Replace tabs by blanks", tuple(edits))


def _not_a_mapping(data: object, text: str) -> Fault:
    if data is None:
        return Fault("RCP005", "the recipe is empty: it needs `task:`, `model:` and `dataset:`", 0, 0)
    what = "a list" if isinstance(data, list) else "a single value"
    first_line = len(text.split("\n", 1)[0])
    return Fault("RCP006", f"the recipe is {what}: it must be sections such as `model:` and `dataset:`", 0, first_line)
