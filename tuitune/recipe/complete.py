"""What the editor asks about a position: which keys and words fit here, what a key means, where we are, which keys there are."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from tuitune.recipe.cursor import Cursor, key_path, locate
from tuitune.recipe.document import Document
from tuitune.recipe.problems import KeyPath, dotted
from tuitune.recipe.schema import Schema
from tuitune.recipe.sections import AUTO, COMMON, FieldSpec
from tuitune.recipe.values import as_yaml, shown

_IMPORTANCE = {name: index for index, name in enumerate(COMMON)}


@dataclass(frozen=True)
class Completion:
    """Replace the line from `replace_from_column` (from 1) up to the cursor by `text`.

    kind: "section" (a mapping or list goes below it), "key" or "value". detail: type and default, one line. doc: may be long.
    """

    text: str
    kind: Literal["section", "key", "value"]
    detail: str
    doc: str
    replace_from_column: int


@dataclass(frozen=True)
class Symbol:
    """A key of the recipe, for the `@` list; line and column from 1."""

    name: str
    path: KeyPath
    line: int
    column: int


def complete(text: str, line: int, column: int, schema: Schema) -> list[Completion]:
    """What could be typed at (line, column), the best first. Works on text that is broken where it is being typed."""
    cursor = locate(text, line, column)
    task = _task(text, schema)
    if cursor.part == "key":
        return _keys(cursor, schema, task)
    if cursor.part == "none":
        return []
    spec = schema.field(cursor.path, task)
    if spec is None:
        return []
    words = _words(cursor.path, spec, schema, item=cursor.part == "item")
    default = as_yaml(spec.default) if isinstance(spec.default, str | bool) else ""
    return [
        Completion(word, "value", "default" if word == default else "", spec.doc, cursor.word_start)
        for word in _ranked(words, cursor.word.strip("'\""))
    ]


def describe(text: str, line: int, column: int, schema: Schema) -> str | None:
    """The documentation of the key at or around the position: name, type, default, then text. None where there is none."""
    cursor = locate(text, line, column)
    task = _task(text, schema)
    path = key_path(text, line)
    if cursor.part in ("value", "item"):
        path = cursor.path
    elif cursor.part == "key" and cursor.word:
        whole = re.match(r"[\w.-]*", text.split("\n")[line - 1][cursor.word_start - 1 :])
        path = (*cursor.path, whole[0] if whole else cursor.word)
    spec = schema.field(path, task)
    if spec is None:
        return None
    name = str(path[-1])
    lines = [f"{name}: {detail(spec)}"]
    if spec.choices:
        lines.append(f"{'for example' if spec.open_choices else 'one of'} {', '.join(spec.choices)}")
    if spec.aliases:
        lines.append(f"also known as {', '.join((set(spec.aliases) | {spec.name}) - {name})}")
    if spec.deprecated:
        lines.append(f"deprecated: {spec.deprecated}")
    return "\n".join([*lines, "", spec.doc]).strip()


def breadcrumb(text: str, line: int, column: int) -> tuple[str, ...]:
    """("dataset", "train", "[0]", "path"): where the position is, for the line under the tabs."""
    cursor = locate(text, line, column)
    path = cursor.path if cursor.part in ("value", "item") else key_path(text, line)
    return tuple(f"[{part}]" if isinstance(part, int) else part for part in path)


def symbols(document: Document) -> list[Symbol]:
    """Every key that is written, in the order of the text."""
    found = []
    for path, entry in document.entries.items():
        if entry.key is not None and entry.style != "alias" and isinstance(path[-1], str):
            span = document.span_at(*entry.key)
            found.append(Symbol(dotted(path), path, span.line, span.column))
    return sorted(found, key=lambda symbol: (symbol.line, symbol.column))


def detail(spec: FieldSpec) -> str:
    """ "float = 2e-05", "str, required" """
    if spec.required:
        return f"{spec.type}, required"
    if spec.default is None:
        return spec.type
    return f"{spec.type} = {shown(spec.default)}"


def _task(text: str, schema: Schema) -> str:
    match = re.search(r"^task:[ \t]*['\"]?([\w.-]+)", text, re.MULTILINE)
    return match[1] if match and match[1] in schema.tasks else "sft"


def _keys(cursor: Cursor, schema: Schema, task: str) -> list[Completion]:
    fields = schema.fields(cursor.path, task)
    if fields is None:
        return []
    free = {name: spec for name, spec in fields.items() if name not in cursor.siblings and not cursor.siblings & set(spec.aliases)}

    def weight(name: str) -> int:
        return -1 if free[name].required else _IMPORTANCE.get(name, len(_IMPORTANCE) + bool(free[name].deprecated))

    return [_key(free[name], cursor) for name in _ranked(free, cursor.word.strip("'\""), weight)]


def _key(spec: FieldSpec, cursor: Cursor) -> Completion:
    opens_below = set(spec.types) <= {"dict", "list[dict]", "null"} and "dict" in spec.type
    ending = "" if cursor.colon else ":" if opens_below else ": "
    return Completion(spec.name + ending, "section" if opens_below else "key", detail(spec), spec.doc, cursor.word_start)


def _words(path: KeyPath, spec: FieldSpec, schema: Schema, *, item: bool) -> list[str]:
    """The values worth offering, as YAML: choices, truth values, auto, null."""
    words = [as_yaml(word) for word in (schema.tasks if path == ("task",) else spec.choices)]
    if item:
        return words
    if "bool" in spec.types:
        words = ["true", "false", *words]
    if path == ("peft", "target_modules"):
        words.insert(0, "all-linear")
    if (path[0], spec.name) in AUTO and "auto" not in words:
        words.append("auto")
    return [*words, "null"] if "null" in spec.types and words else words


def _ranked(words: Iterable[str], typed: str, weight: Callable[[str], int] = lambda word: 0) -> list[str]:
    """The words that hold what was typed: those that begin with it first, then by weight, then as they come."""
    typed = typed.lower()
    found = [word for word in words if typed in word.lower()]
    if not found:  # `lrst` for lr_scheduler_type: the letters in their order
        letters = re.compile(".*".join(map(re.escape, typed)))
        found = [word for word in words if word[:1].lower() == typed[:1] and letters.match(word.lower())]
    return sorted(found, key=lambda word: (not word.lower().startswith(typed), weight(word)))
