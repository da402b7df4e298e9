"""The fields of a journal record, taken with care: a value of the wrong type is None or empty, never an error. Nothing of Textual."""

import math
from collections.abc import Mapping
from typing import Any

from tuitune.bus.envelope import as_number
from tuitune.workbench.gpu_reading import word


def finite(value: Any) -> float | None:
    """A finite number, else None."""
    found = None if isinstance(value, bool) else as_number(value)
    return found if found is not None and math.isfinite(found) else None


def whole(value: Any) -> int | None:
    """A whole number, else None."""
    found = finite(value)
    return int(found) if found is not None and abs(found) < 2**53 else None


def sentence(value: Any) -> str:
    """A foreign sentence made safe to show."""
    return word(value, limit=500)


def source(record: Mapping[str, Any]) -> str:
    """The journal file that the record is from: "hub", "trainer-2", or "" when it does not say."""
    name = record.get("src")
    return name if isinstance(name, str) else ""
