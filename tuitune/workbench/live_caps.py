"""What a run can be told while it trains, as its trainer's hello says it (`caps`). Plain data; nothing of Textual."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuitune.workbench.gpu_reading import word
from tuitune.workbench.record_fields import finite

HUB_OPS = ("kill", "stacks")  # the hub does these itself, whatever the trainer takes


@dataclass(frozen=True)
class Setting:
    """A value that `set` changes. `type`: float, int or choice; `low` and `high` are inclusive, None = no limit; `value`: at the hello."""

    name: str
    type: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    value: Any = None


@dataclass(frozen=True)
class Cap:
    """One op. `effect`: now, step (at the end of the step) or restart (training is entered again)."""

    name: str
    effect: str = "step"
    settings: Mapping[str, Setting] = field(default_factory=dict)
    modes: tuple[str, ...] = ()


def read_caps(caps: Any) -> dict[str, Cap]:
    """The ops by name. An older trainer names them as plain texts."""
    found: dict[str, Cap] = {}
    for entry in caps[:64] if isinstance(caps, list) else []:
        if isinstance(entry, str):
            found[entry] = Cap(entry)
        elif isinstance(entry, Mapping) and (name := word(entry.get("name"), limit=40)):
            keys = entry.get("keys")
            settings = [setting for key in keys[:64] if (setting := _setting(key))] if isinstance(keys, list) else []
            by_name = {setting.name: setting for setting in settings}
            found[name] = Cap(name, word(entry.get("effect"), limit=20) or "step", by_name, _texts(entry.get("modes")))
    return found


def _setting(entry: Any) -> Setting | None:
    if not isinstance(entry, Mapping) or not (name := word(entry.get("name"), limit=60)):
        return None
    kind = word(entry.get("type"), limit=20)
    low, high = finite(entry.get("min")), finite(entry.get("max"))
    return Setting(name, kind, low, high, _texts(entry.get("choices")), entry.get("value"))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(word(item, limit=60) for item in value[:64] if isinstance(item, str)) if isinstance(value, list) else ()
