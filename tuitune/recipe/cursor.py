"""Where in a recipe a text position is: read from the lines around it, because the text under a typing cursor is mostly broken.

Only the shape of lines is looked at (indentation, `- `, `key:`, and brackets on the cursor's own line), so a faulty line elsewhere
changes nothing and 300 lines cost microseconds.
"""

import re
from dataclasses import dataclass
from typing import Literal

from tuitune.recipe.problems import KeyPath

_KEY = re.compile(r"""(?P<lead>[ ]*(?:- +)*)(?P<key>"[^"]*"|'[^']*'|[^\s#{}\[\],:'"&*!|>%@`-][^\s#:,{}\[\]]*)\s*:(?P<after>[ \t].*|)$""")
_LEAD = re.compile(r"[ ]*(?:-(?:[ ]+|$))*")
_OPENS_TEXT = re.compile(r"[|>][-+0-9]*\s*(#.*)?$")


@dataclass(frozen=True)
class Cursor:
    """`path` is the mapping (or, for a value, the key) that the position belongs to.

    part: "key" while a key is typed, "value" behind `key: `, "item" for a bare list item, "none" in comments and block text.
    word, word_start: what was typed of it so far, and its column from 1. colon: whether a `:` follows the word already.
    siblings: the other keys of the same mapping.
    """

    path: KeyPath
    part: Literal["key", "value", "item", "none"]
    word: str = ""
    word_start: int = 1
    colon: bool = False
    siblings: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Shape:
    """One line in block style: the columns (from 0) of its dashes, the column of what follows them, its key and the rest."""

    dashes: tuple[int, ...]
    indent: int
    key: str | None
    rest: str


@dataclass(frozen=True)
class _Level:
    """One step of the path to a line: a key or a place in a list, and the column where it is written."""

    column: int
    part: str | int


def locate(text: str, line: int, column: int) -> Cursor:
    """What stands at (line, column), both from 1. Positions outside the text are moved to its edge."""
    lines = text.split("\n")
    row = min(max(line - 1, 0), len(lines) - 1)
    current = lines[row].rstrip("\r")
    before = current[: min(max(column - 1, 0), len(current))]
    nowhere = Cursor((), "none", word_start=len(before) + 1)
    outline = _Outline(lines)
    levels = outline.before(row)
    if levels is None or _in_comment(before) or "\t" in before:
        return nowhere
    opened = _open_brackets(before)
    if opened:
        head = _shape(before[: opened[0][0]])
        return _in_flow(_path(_descend(levels, head)), current, before, opened)
    shape = _shape(before)
    path = _path(_descend(levels, shape))
    if shape.key is not None:
        return Cursor(path, "value", shape.rest, len(before) - len(shape.rest) + 1)
    word = shape.rest
    if " " in word:
        return nowhere
    colon = re.match(r"[\w.-]*\s*:", current[len(before) :]) is not None
    part: Literal["key", "item"] = "key"
    return Cursor(path, part, word, len(before) - len(word) + 1, colon, outline.keys_of(path, but=row))


def key_path(text: str, line: int) -> KeyPath:
    """The path of the key on a line (of the mapping around it when the line has none): for the bread crumbs."""
    lines = text.split("\n")
    row = min(max(line - 1, 0), len(lines) - 1)
    levels = _Outline(lines).before(row)
    return () if levels is None else _path(_descend(levels, _shape(lines[row].rstrip("\r"))))


class _Outline:
    """The keys of all lines, each with the mapping it is in. Lines of `|` texts and comments are left out."""

    def __init__(self, lines: list[str]) -> None:
        self._levels: list[tuple[_Level, ...] | None] = []  # above each line; None inside a `|` text
        self._keys: list[tuple[int, KeyPath, str]] = []
        levels: tuple[_Level, ...] = ()
        text_indent: int | None = None
        for row, raw in enumerate(lines):
            line = raw.rstrip("\r")
            blank = not line.strip()
            if text_indent is not None and not blank and len(line) - len(line.lstrip(" ")) <= text_indent:
                text_indent = None
            if text_indent is not None:
                self._levels.append(levels if blank else None)
                continue
            self._levels.append(levels)
            if blank or line.lstrip().startswith("#") or line in ("---", "..."):
                continue
            shape = _shape(line)
            levels = _descend(levels, shape)
            if shape.key is not None:
                self._keys.append((row, _path(levels[:-1]), shape.key))
                if _OPENS_TEXT.match(shape.rest):
                    text_indent = shape.dashes[0] if shape.dashes else shape.indent

    def before(self, row: int) -> tuple[_Level, ...] | None:
        return self._levels[row]

    def keys_of(self, path: KeyPath, *, but: int) -> frozenset[str]:
        """The keys of the mapping at `path`, those on line `but` left out."""
        return frozenset(key for row, parent, key in self._keys if parent == path and row != but)


def _descend(levels: tuple[_Level, ...], shape: _Shape) -> tuple[_Level, ...]:
    """The levels of a line, given those of the line above it."""
    for column in shape.dashes:
        while levels and levels[-1].column > column:
            levels = levels[:-1]
        last = levels[-1].part if levels and levels[-1].column == column else None
        levels = (*levels[:-1], _Level(column, last + 1)) if isinstance(last, int) else (*levels, _Level(column, 0))
    while levels and levels[-1].column >= shape.indent:
        levels = levels[:-1]
    return levels if shape.key is None else (*levels, _Level(shape.indent, shape.key))


def _path(levels: tuple[_Level, ...]) -> KeyPath:
    return tuple(level.part for level in levels)


def _shape(line: str) -> _Shape:
    lead = _LEAD.match(line)
    end = lead.end() if lead else 0
    dashes = tuple(index for index in range(end) if line[index] == "-")
    match = _KEY.match(line)
    if match is None:
        return _Shape(dashes, end, None, line[end:])
    return _Shape(dashes, end, _unquoted(match["key"]), match["after"].lstrip())


def _unquoted(key: str) -> str:
    return key[1:-1] if key[:1] in "'\"" and len(key) > 1 else key


def _in_comment(before: str) -> bool:
    quote = ""
    for index, char in enumerate(before):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and (index == 0 or before[index - 1] in " [{,:"):
            quote = char
        elif char == "#" and (index == 0 or before[index - 1] in " \t"):
            return True
    return False


def _open_brackets(text: str) -> list[tuple[int, str]]:
    stack: list[tuple[int, str]] = []
    quote = ""
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and text[index - 1 : index] in ("", " ", "[", "{", ",", ":"):
            quote = char
        elif char in "[{":
            stack.append((index, char))
        elif char in "]}" and stack:
            stack.pop()
    return stack


def _in_flow(outer: KeyPath, current: str, before: str, opened: list[tuple[int, str]]) -> Cursor:
    """Inside the brackets `opened` on the cursor's line, which begin at the value of `outer`."""
    path: list[str | int] = list(outer)
    for index, (position, bracket) in enumerate(opened):
        last = index + 1 == len(opened)
        inside = _without_brackets(before[position + 1 : len(before) if last else opened[index + 1][0]])
        piece = inside.rsplit(",", 1)[-1]
        key, colon, value = piece.partition(":")
        word = (value if colon and bracket == "{" else piece).lstrip()
        start = len(before) - len(word) + 1
        if bracket == "[":
            if last:
                return Cursor(tuple(path), "item", word, start)
            path.append(inside.count(","))
        elif last and not colon:
            follows = re.match(r"[\w.-]*\s*:", current[len(before) :]) is not None
            return Cursor(tuple(path), "key", word, start, follows, _flow_siblings(inside, current, before))
        else:
            path.append(_unquoted(key.strip()))
            if last:
                return Cursor(tuple(path), "value", word, start)
    raise AssertionError("a bracket is open")


def _without_brackets(text: str) -> str:
    """`text` with everything inside its own closed brackets blanked, so that commas and colons count only at its level."""
    depth, result = 0, []
    for char in text:
        depth += char in "[{"
        result.append("_" if depth else char)
        depth -= char in "]}" and depth > 0
    return "".join(result)


def _flow_siblings(inside: str, current: str, before: str) -> frozenset[str]:
    rest = _without_brackets(re.split(r"[}\]]", current[len(before) :], maxsplit=1)[0])
    keys = [piece.partition(":")[0].strip() for piece in (*inside.split(",")[:-1], *rest.split(",")[1:])]
    return frozenset(_unquoted(key) for key in keys if key)
