"""What commands of the terminal write: one JSON document, or words for people beside the result."""

import json
import sys
from typing import Any

from tuitune.text import escaped_json


def print_json(document: dict[str, Any]) -> None:
    """The one document of a command with --json, on stdout."""
    sys.stdout.write(escaped_json(json.dumps({"schema": 1, **document}, ensure_ascii=False)) + "\n")


def say(text: str) -> None:
    """What happens meanwhile: for people, so on stderr beside the result, and only to a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{text}\n")
