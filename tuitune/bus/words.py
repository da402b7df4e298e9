"""The words of a command as people type them: `tuitune send RUN OP KEY=VALUE …` and the command bar of a run's dashboard."""

import json
from collections.abc import Sequence
from typing import Any

from tuitune.errors import UserError

SET_WORDS = frozenset({"key", "value", "kind", "steps", "end"})


def arguments(op: str, words: Sequence[str]) -> dict[str, Any]:
    """`save=false note=hello` → {"save": False, "note": "hello"}; for `set`, `learning_rate=1e-4` is short for `key=learning_rate
    value=1e-4`. UserError for a word that is not KEY=VALUE."""
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (key and equals):
            raise UserError(f"{word!r} is not KEY=VALUE", exit_code=2)
        try:
            values[key] = json.loads(text)
        except ValueError:
            values[key] = text
    named = [key for key in values if key not in SET_WORDS] if op == "set" and "key" not in values else []
    if len(named) > 1:
        raise UserError(f"set changes one thing at a time, not {' and '.join(named)}", exit_code=2)
    if named:
        values = {"key": named[0], "value": values[named[0]], **{key: value for key, value in values.items() if key != named[0]}}
    return values
