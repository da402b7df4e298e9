"""YAML 1.2 text to plain data, remembering where every key and value stands. Never raises for bad text: it reports.

Built on ruamel.yaml's event stream rather than on its object tree, for three reasons: the events carry offsets (fixes are edits of
the text, so comments and order survive), the parser behind them does not recurse (deep nesting cannot overflow the stack), and an
alias costs nothing until it is counted (a "billion laughs" file is refused, not expanded).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tuitune.recipe.problems import KeyPath
from tuitune.text import printable

MAX_CHARACTERS = 1 << 20  # a recipe is some hundred lines; a file this long is a mistake (a data set, most likely)
MAX_DEPTH = 40
MAX_VALUES = 20_000  # counted after aliases are followed
MAX_FAULTS = 100

# YAML 1.2 core schema: `2e-4` is a number, `no` and `on` are words.
_NULL = {"", "~", "null", "Null", "NULL"}
_TRUE, _FALSE = {"true", "True", "TRUE"}, {"false", "False", "FALSE"}
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_BASED = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")


@dataclass(frozen=True)
class Entry:
    """Where one value stands: offsets into the text. `key` is None for list items and for the whole document.

    style: "plain", "quoted", "block" (| or >), "empty" (nothing written), "alias", "mapping", "sequence", "flow mapping",
    "flow sequence".
    """

    key: tuple[int, int] | None
    value: tuple[int, int]
    style: str


@dataclass(frozen=True)
class Fault:
    """Something the reader tripped over: offsets, and `repeated` when it is a second key of the same name."""

    code: str
    message: str
    start: int
    end: int
    path: KeyPath = ()
    repeated: Entry | None = None
    missing_blank: int | None = None  # offset where one blank puts it right


@dataclass
class Reading:
    data: Any = None
    entries: dict[KeyPath, Entry] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def plain_value(text: str) -> object:
    """The value of an unquoted scalar under YAML 1.2's core schema."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.match(text):
        return int(text) if len(text) < 400 else text  # int() of huge texts is slow and refused beyond 4300 digits
    if _BASED.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        return float(text)
    if match := _NOT_FINITE.match(text):
        return float("nan") if match[3] else float(f"{match[1]}inf")
    return text


def read(text: str) -> Reading:
    """Read one YAML document. Text that cannot be read to its end gives what was understood so far plus the fault."""
    from ruamel.yaml import YAML  # 30 ms: only when a recipe is read
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError

    builder = _Builder(text)
    try:
        builder.run(YAML(typ="safe", pure=True).parse(text))
    except _Refused as refused:
        builder.reading.faults.append(refused.fault)
    except ReaderError as error:
        at = min(error.position, max(len(text) - 1, 0))
        what = f"the character {printable(text[at : at + 1])!s} (code {error.character}) is not allowed in YAML: delete it"
        builder.reading.faults.append(Fault("RCP001", what, at, at + 1))
    except MarkedYAMLError as error:
        builder.reading.faults.append(_syntax_fault(text, error))
    builder.unwind()
    return builder.reading


class _Refused(Exception):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault


@dataclass
class _Frame:
    """A mapping or list that is being filled."""

    data: dict[str, Any] | list[Any]
    path: KeyPath
    start: int
    end: int  # of the last thing inside: block collections have no closing mark of their own
    flow: bool
    anchor: str | None
    size: int = 1
    key: str | None = None
    key_at: tuple[int, int] | None = None
    merged: set[str] = field(default_factory=set)
    duplicate: bool = False  # the pending key is there already
    muted: bool = False  # inside the value of a second key: not recorded, its place in `entries` is the first one's


class _Builder:
    def __init__(self, text: str) -> None:
        self.text = text
        self.reading = Reading()
        self.stack: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.values = 0
        self.documents = 0

    def run(self, events: Iterator[Any]) -> None:
        for event in events:
            kind = type(event).__name__
            start, end = event.start_mark.index, event.end_mark.index
            if kind == "DocumentStartEvent":
                self.documents += 1
                if self.documents > 1:
                    message = "a recipe is one document: remove the `---` line and what follows it"
                    raise _Refused(Fault("RCP009", message, start, max(end, start + 3)))
            elif kind == "ScalarEvent":
                self._scalar(event, start, end)
            elif kind == "AliasEvent":
                self._alias(event.anchor, start, end)
            elif kind in ("MappingStartEvent", "SequenceStartEvent"):
                self._open(event, kind == "MappingStartEvent", start)
            elif kind in ("MappingEndEvent", "SequenceEndEvent"):
                self._close(end)

    def unwind(self) -> None:
        """Close what a fault left open, so that the part above it is understood; half a `[…]` or `{…}` is dropped."""
        self.values = 0
        while self.stack:
            if self.stack[-1].flow:
                self.stack.pop()
                if self.stack:
                    self.stack[-1].key = None
            else:
                self._close(self.stack[-1].end)

    def _scalar(self, event: Any, start: int, end: int) -> None:
        self._refuse_tag(event, start, end)
        plain = event.style is None or event.style == ""
        if self._expects_key():
            self._take_key(event.value if not (plain and event.value == "") else None, start, end)
            return
        value = plain_value(event.value) if plain and event.tag is None else event.value
        if plain and event.value == "":
            start = end = self._after_colon(start)
            style = "empty"
        else:
            style = "plain" if plain else "quoted" if event.style in "'\"" else "block"
            if style == "block":
                end = start + len(self.text[start:end].rstrip())
        self._put(value, 1, start, end, style, event.anchor)

    def _after_colon(self, start: int) -> int:
        """An empty value is reported by the parser where the next token begins; for the reader it is right behind its key."""
        frame = self.stack[-1] if self.stack else None
        if frame is None or frame.key_at is None:
            return start
        colon = self.text.find(":", frame.key_at[1])
        return colon + 1 if 0 <= colon < max(start, frame.key_at[1] + 1) else start

    def _alias(self, name: str, start: int, end: int) -> None:
        if name not in self.anchors:
            raise _Refused(Fault("RCP001", f"`*{printable(name)}` refers to an anchor that is not defined above it", start, end))
        value, size = self.anchors[name]
        if size == 0:
            raise _Refused(Fault("RCP007", f"`*{printable(name)}` refers to the block it stands in, which has no end", start, end))
        if self._expects_key():
            raise _Refused(Fault("RCP009", "an alias cannot be a key here: write the key itself", start, end))
        self._put(value, size, start, end, "alias", None)

    def _open(self, event: Any, mapping: bool, start: int) -> None:
        self._refuse_tag(event, start, start + 1)
        if self._expects_key():
            raise _Refused(Fault("RCP009", "a key must be a word, not a list or a mapping", start, start + 1))
        if len(self.stack) >= MAX_DEPTH:
            raise _Refused(Fault("RCP007", f"values are nested deeper than {MAX_DEPTH} levels: this is not a recipe", start, start + 1))
        parent = self.stack[-1] if self.stack else None
        path = self._child_path()
        frame = _Frame({} if mapping else [], path, start, start, bool(event.flow_style), event.anchor)
        frame.muted = parent is not None and (parent.muted or parent.duplicate)
        if event.anchor:
            self.anchors[event.anchor] = (frame.data, 0)
        self.stack.append(frame)

    def _close(self, end: int) -> None:
        frame = self.stack.pop()
        stop = end if frame.flow else frame.end
        style = "mapping" if isinstance(frame.data, dict) else "sequence"
        self._put(frame.data, frame.size, frame.start, stop, f"flow {style}" if frame.flow else style, frame.anchor)

    def _expects_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].data, dict) and self.stack[-1].key is None

    def _take_key(self, name: str | None, start: int, end: int) -> None:
        frame = self.stack[-1]
        if name is None:
            raise _Refused(Fault("RCP001", "a key is missing before this `:`", start, max(end, start + 1), frame.path))
        frame.key, frame.key_at, frame.end = name, (start, end), end
        frame.duplicate = name in frame.data and name not in frame.merged

    def _child_path(self) -> KeyPath:
        if not self.stack:
            return ()
        frame = self.stack[-1]
        return (*frame.path, len(frame.data) if isinstance(frame.data, list) else frame.key or "")

    def _put(self, value: Any, size: int, start: int, end: int, style: str, anchor: str | None) -> None:
        self.values += size if style == "alias" else 1
        if self.values > MAX_VALUES:
            what = f"the recipe holds more than {MAX_VALUES:,} values once its aliases are followed: this is not a recipe"
            raise _Refused(Fault("RCP007", what, start, max(end, start + 1)))
        if anchor:
            self.anchors[anchor] = (value, size)
        path = self._child_path()
        if not self.stack:
            self.reading.data = value
            self.reading.entries[path] = Entry(None, (start, end), style)
            return
        frame = self.stack[-1]
        recorded = {} if frame.muted else self.reading.entries
        frame.size += size
        frame.end = max(frame.end, end)
        if isinstance(frame.data, list):
            frame.data.append(value)
            recorded[path] = Entry(None, (start, end), style)
            return
        key, key_at = frame.key or "", frame.key_at or (start, start)
        entry = Entry(key_at, (start, end), style)
        if key == "<<" and style in ("alias", "flow sequence", "flow mapping", "mapping"):
            self._merge(frame, value, entry, recorded)
        elif frame.duplicate:
            message = f"`{printable(key)}` is given twice here: only one of the two can count"
            if len(self.reading.faults) < MAX_FAULTS:
                self.reading.faults.append(Fault("RCP004", message, *key_at, path=path, repeated=entry))
        else:
            frame.data[key] = value
            frame.merged.discard(key)
            recorded[path] = entry
        frame.key, frame.key_at, frame.duplicate = None, None, False

    def _merge(self, frame: _Frame, value: Any, entry: Entry, recorded: dict[KeyPath, Entry]) -> None:
        """`<<: *base`: take over the keys that are not written here; they are reported where the alias stands."""
        sources = value if isinstance(value, list) else [value]
        key_at = entry.key or entry.value
        if not all(isinstance(source, dict) for source in sources):
            self.reading.faults.append(Fault("RCP009", "`<<` takes in a mapping, for example `<<: *base`", *key_at, path=frame.path))
            return
        assert isinstance(frame.data, dict)
        for source in sources:
            for key, item in source.items():
                if key not in frame.data:
                    frame.data[key] = item
                    frame.merged.add(key)
                    recorded[(*frame.path, key)] = Entry(key_at, entry.value, "alias")

    def _refuse_tag(self, event: Any, start: int, end: int) -> None:
        tag = str(event.tag) if event.tag is not None else ""
        if tag and tag not in ("!", "tag:yaml.org,2002:str"):
            raise _Refused(Fault("RCP009", f"the tag `{printable(tag)}` is not used in recipes: delete it", start, max(end, start + 1)))


def _syntax_fault(text: str, error: Any) -> Fault:
    """A plain sentence for what the YAML scanner or parser says, at the place where a person would look."""
    problem, context = str(error.problem or ""), str(error.context or "")
    mark = error.problem_mark or error.context_mark
    at = min(mark.index, len(text)) if mark is not None else 0
    opened = error.context_mark.index if error.context_mark is not None else at
    if "'\\t'" in problem:
        return Fault("RCP003", "a tab stands where YAML wants blanks: use blanks to indent", at, at + 1)
    if "quoted scalar" in context:
        return Fault("RCP001", f"the quote {text[opened : opened + 1]} opened here is never closed", opened, opened + 1)
    if "flow" in context:
        bracket = text[opened : opened + 1]
        closing = {"[": "]", "{": "}"}.get(bracket, "bracket")
        return Fault("RCP001", f"the `{bracket}` opened here is not closed: a `{closing}` or a comma is missing", opened, opened + 1)
    if "mapping values are not allowed" in problem:
        if blank := _missing_blank(text, at):
            return blank
        above = _line_of(text, text.rfind("\n", 0, at)) if "\n" in text[:at] else (at, at)
        if above[0] < above[1] <= at and not re.search(r":|^[#\-]", text[above[0] : above[1]]):
            return Fault("RCP001", "this line has no `:` after its key: write `key: value`", *above)
        message = "a `:` is not expected here: indent this line like its neighbours, or put the value before it in quotes"
        return Fault("RCP001", message, at, at + 1)
    if "could not find expected ':'" in problem:
        if blank := _missing_blank(text, text.find("\n", opened) + 1 or len(text)):
            return blank
        return Fault("RCP001", "this line has no `:` after its key: write `key: value`", *_line_of(text, opened))
    if "block collection" in context or "block mapping" in context:
        return Fault("RCP001", "the indentation of this line fits no line above it", *_line_of(text, at))
    if "sequence entries are not allowed" in problem:
        return Fault("RCP001", "a list item must begin on a line of its own: put the `- ` below the key, indented", at, at + 1)
    if "cannot start any token" in problem:
        character = printable(text[at : at + 1])
        return Fault("RCP001", f"a value cannot begin with `{character}`: put the value in quotes", at, at + 1)
    sentence = " ".join(part for part in (context, problem) if part)
    return Fault("RCP001", f"this is not YAML: {printable(sentence)}", at, min(at + 1, len(text)))


def _missing_blank(text: str, at: int) -> Fault | None:
    """`key:value` on the line above `at`: YAML takes it for one word, and trips over the next line."""
    start, stop = _line_of(text, max(text.rfind("\n", 0, at), 0))
    match = re.match(r"(?:- +)?[A-Za-z_][\w.-]*:(?=[\w'\"\[{.+-])", text[start:stop])
    if match is None or stop > at:
        return None
    colon = start + match.end()
    return Fault("RCP001", "a blank is missing after this `:`", colon - 1, colon, missing_blank=colon)


def _line_of(text: str, offset: int) -> tuple[int, int]:
    """The written part of the line that holds `offset`."""
    start = text.rfind("\n", 0, offset) + 1
    stop = text.find("\n", start)
    line = text[start : stop if stop >= 0 else len(text)]
    return start + len(line) - len(line.lstrip()), start + max(len(line.rstrip()), 1)
