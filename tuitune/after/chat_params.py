"""How an answer is drawn: the sampling parameters of a chat, checked before they reach a model. Imports no torch."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tuitune.errors import UserError

MOST_SEED = 2**32 - 1  # numpy's


@dataclass(frozen=True)
class Params:
    """transformers' names. temperature 0: the likeliest token each time. top_p 1 and top_k 0 cut nothing off. seed None: another one for
    each turn, which is told. max_new_tokens: of one answer."""

    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 50
    max_new_tokens: int = 512
    repetition_penalty: float = 1.0
    seed: int | None = None

    def with_values(self, values: Mapping[str, Any]) -> "Params":
        """The same with other values. UserError for a name that is none, or a value out of its range."""
        changed = {name: _checked(name, value) for name, value in values.items()}
        return replace(self, **changed)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def words(self) -> str:
        """All of them in one line, as `parse` takes them."""
        return " ".join(
            f"{name}={'auto' if value is None else f'{value:g}' if isinstance(value, float) else value}"
            for name, value in self.as_dict().items()
        )


# name → (whole number, least, most)
RANGES: dict[str, tuple[bool, float, float]] = {
    "temperature": (False, 0.0, 100.0),
    "top_p": (False, 0.0, 1.0),
    "top_k": (True, 0, 1_000_000),
    "max_new_tokens": (True, 1, 1_000_000),
    "repetition_penalty": (False, 0.01, 100.0),
    "seed": (True, 0, MOST_SEED),
}


def parse(text: str) -> dict[str, Any]:
    """`temperature=0.2 seed=7` → values for `Params.with_values`. UserError for a word that is not NAME=VALUE."""
    values: dict[str, Any] = {}
    for word in text.replace(",", " ").split():
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise UserError(f"{word!r} is not NAME=VALUE; the names are {', '.join(RANGES)}")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def _checked(name: str, value: Any) -> Any:
    if name not in RANGES:
        raise UserError(f"{name!r} is no sampling parameter; they are {', '.join(RANGES)}")
    if name == "seed" and value in (None, "auto"):
        return None
    whole, low, high = RANGES[name]
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (whole and value != int(value)) or not low <= value <= high or (name == "top_p" and value == 0):
        kind = "a whole number" if whole else "a number"
        least = "above 0" if name == "top_p" else f"from {low:g}"
        raise UserError(f"{name} is {kind} {least} to {high:g}, not {value!r}")
    return int(value) if whole else float(value)
