"""One row in full, as lines: the row as the file has it, and the row as its column mapping makes it. Pure functions, called in a thread
(breaking a long text into lines takes a while)."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tuitune.text import printable
from tuitune.workbench.parts.broken_text import broken_up
from tuitune.workbench.parts.role_lines import Line

ROOM = 100_000  # characters of a row that are shown; a note says what is cut
TURNS = ("messages", "prompt", "completion", "chosen", "rejected")
ROLES = {"user": "one", "system": "two", "assistant": "three", "tool": "warn"}


def raw_lines(answer: Mapping[str, Any], width: int) -> list[Line]:
    """Every column with its value; the reason for a row that cannot be read."""
    if "error" in answer:
        return list(broken_up(answer["error"], width, "error"))
    lines = _notes(answer["cut"], width)
    for name, value in answer["data"].items():
        lines.append(((printable(str(name), limit=80), "one"), (f"  {kind_of(value)}", "dim")))
        lines += broken_up(value if isinstance(value, str) else _json(value), width)
    return lines


def made_lines(answer: Mapping[str, Any], width: int) -> list[Line]:
    """What the mapping makes of the row: turns with their roles, or texts; why it makes nothing."""
    if "error" in answer:
        return [(("this row cannot be read, so nothing is made of it", "dim"),)]
    if "misfit" in answer:
        return list(broken_up(answer["misfit"], width, "error"))
    lines = _notes(answer["made_cut"], width)
    for name, value in answer["made"].items():
        turns = value if name in TURNS and isinstance(value, list) else None
        lines.append(((name, "title"), ("" if turns is not None else f"  {kind_of(value)}", "dim")))
        if turns is None:
            lines += broken_up(value if isinstance(value, str) else _json(value), width)
            continue
        for turn in turns:
            role = str(turn.get("role", "")) if isinstance(turn, dict) else ""
            lines.append(((printable(role, limit=40), ROLES.get(role, "warn")),))
            lines += _turn(turn, width)
    return lines


def _turn(turn: Any, width: int) -> Iterator[Line]:
    if not isinstance(turn, dict):
        yield from broken_up(_json(turn), width)
        return
    for name, value in turn.items():
        if name == "role":
            continue
        if name != "content":
            yield ((printable(str(name), limit=40), "dim"),)
        yield from broken_up(value if isinstance(value, str) else _json(value), width)


def kind_of(value: Any) -> str:
    """A value's type in a word or two, with the length of a text."""
    if isinstance(value, str):
        return "1 character" if len(value) == 1 else f"{len(value):,} characters"
    if isinstance(value, list):
        return f"list of {len(value):,}"
    if value is None:
        return "nothing"
    return {"bool": "true or false", "int": "number", "float": "number", "dict": "object"}.get(type(value).__name__, type(value).__name__)


def mapping_words(mapping: Mapping[str, str]) -> str:
    """{"user": "question"} as "user ← question"."""
    return ", ".join(target if target == source else f"{target} ← {printable(source, limit=40)}" for target, source in mapping.items())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1 if isinstance(value, dict | list) else None, default=str)


def _notes(cut: Any, width: int) -> list[Line]:
    """What is cut is said first: nobody scrolls to the end of a long row."""
    return [line for text in cut for line in broken_up(f"[{text}]", width, "warn")]
