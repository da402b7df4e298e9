"""Values of rows made small enough to travel: a cell's beginning for the table, a whole row up to a bound."""

import json
from typing import Any

from tuitune.dataset.sources import Broken, Row

CELL = 400  # characters of a cell in the table
WHOLE = 1 << 20  # characters of one row
LONG_LIST = 10_000  # elements of a list or an object


def as_text(value: Any) -> str:
    """A value as one text: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def brief(row: int, item: Row | Broken, cell: int = CELL) -> dict[str, Any]:
    """A row of the table: {"row", "line", "cells": [[column, beginning, length], …]}, or "error" instead of cells."""
    if isinstance(item, Broken):
        return {"row": row, "line": item.line, "error": str(item.error)}
    texts = ((str(name)[:CELL], as_text(value)) for name, value in item.data.items())
    return {"row": row, "line": item.line, "cells": [[name, text[:cell], len(text)] for name, text in texts]}


class Bounded:
    """Copies values until `room` characters are used up; `cut` says what was shortened, with its true length."""

    def __init__(self, room: int = WHOLE) -> None:
        self.room = room
        self.cut: list[str] = []

    def copy(self, value: Any, name: str = "") -> Any:
        """The value with what is too long in it shortened; what JSON does not know becomes text."""
        if isinstance(value, dict):
            items = self._some(value.items(), name)
            return {str(key)[:CELL]: self.copy(item, f"{name}.{key}" if name else str(key)) for key, item in items}
        if isinstance(value, list | tuple):
            return [self.copy(item, f"{name}[{index}]") for index, item in enumerate(self._some(value, name))]
        if value is None or isinstance(value, bool | int | float):
            return value
        text = value if isinstance(value, str) else str(value)
        kept = text[: max(0, self.room)]
        self.room -= len(kept)
        if len(kept) < len(text):
            self.cut.append(f"{name[:CELL]} has {len(text):,} characters, the first {len(kept):,} are here")
        return kept

    def _some(self, items: Any, name: str) -> list[Any]:
        found = list(items)
        if len(found) > LONG_LIST:
            self.cut.append(f"{name[:CELL]} has {len(found):,} elements, the first {LONG_LIST:,} are here")
        return found[:LONG_LIST]
