"""What the workbench remembers between sessions: colours, sizes and the line, in ~/.config/tuitune/settings.json.

A broken or foreign file never keeps the workbench from opening: what cannot be read counts as not set. Imports nothing of Textual.
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tuitune.files import write_atomically
from tuitune.workbench.pace import PINS


@dataclass
class Settings:
    """Sizes are in cells; None = by the size of the terminal. `line`: what the user calls the line to the terminal (pace.PINS)."""

    theme: str | None = None
    side_bar: bool = True
    side_bar_width: int = 28
    panel: bool = False
    panel_height: int = 10
    gpu_panel: bool | None = None
    gpu_panel_width: int = 30
    line: str = "auto"


LIMITS = {"side_bar_width": (16, 60), "panel_height": (4, 30), "gpu_panel_width": (20, 60)}


def settings_file() -> Path:
    """$XDG_CONFIG_HOME/tuitune/settings.json, else ~/.config/tuitune/settings.json (not created)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "tuitune" / "settings.json"


def load_settings(path: Path | None = None) -> tuple[Settings, str | None]:
    """The settings, and one sentence when the file is there but not usable."""
    path = path or settings_file()
    settings = Settings()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return settings, None
    except (OSError, ValueError, RecursionError) as error:
        return settings, f"{path} cannot be used ({type(error).__name__}): defaults are in force until a setting is changed"
    if not isinstance(data, dict):
        return settings, f"{path} holds no settings: defaults are in force until a setting is changed"
    ignored = [name for name, value in data.items() if not _take(settings, name, value)]
    return settings, f"{path}: ignored {', '.join(sorted(ignored)[:5])}" if ignored else None


def save_settings(settings: Settings, path: Path | None = None) -> str | None:
    """Write the settings whole or not at all; one sentence when that is not possible."""
    path = path or settings_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, json.dumps({name: value for name, value in asdict(settings).items() if value is not None}, indent=2) + "\n")
    except OSError as error:
        return f"settings are not kept: {path}: {error.strerror}"
    return None


def _take(settings: Settings, name: str, value: Any) -> bool:
    known = {field.name for field in fields(Settings)}
    if name not in known:
        return False
    if name in LIMITS:
        low, high = LIMITS[name]
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        value = min(max(value, low), high)
    elif name == "line":
        if value not in PINS:
            return False
    elif name == "theme":
        if not isinstance(value, str):
            return False
    elif not isinstance(value, bool):
        return False
    setattr(settings, name, value)
    return True
