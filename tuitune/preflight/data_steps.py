"""What can be done to the rows of a data file, by name: the steps of a DataCopy.

A step takes one row as it stands in its file (names of the file's own columns), what its columns are for (target → source, as in the
recipe) and the copy's options, and gives the rows that take its place. None of them changes what it is given.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from tuitune.dataset.columns import ROLES

Data = Mapping[str, Any]
Columns = Mapping[str, str]
Step = Callable[[Data, Columns, Mapping[str, Any]], list[dict[str, Any]]]
Turns = list[dict[str, Any]]

TEXTS = ("system", "user", "assistant", "context", "reasoning", "prompt", "completion", "text", "chosen", "rejected")
TALKS = ("messages", "prompt", "completion", "chosen", "rejected")  # targets that may be lists of turns
KWARGS = "chat_template_kwargs"


def is_talk(value: Any) -> bool:
    """Whether a value is a list of turns."""
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) for turn in value)


def as_text(value: Any, options: Mapping[str, Any]) -> Any:
    """A number, date or truth value as the text that stands for it in JSON or ISO 8601; anything else as it is.

    options["dates"]: points in time are whole days (a column of dates that was stored as timestamps).
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.date().isoformat() if options.get("dates") else value.isoformat(" ")
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, int | float) and value == value else value


def _as_text(data: Data, columns: Columns, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    sources = {columns[target] for target in TEXTS if target in columns}
    texts = {name: as_text(value, options) if name in sources else value for name, value in data.items()}

    def turn_texts(turns: Turns) -> Turns:
        return [{key: as_text(value, options) if key in ("content", "value") else value for key, value in turn.items()} for turn in turns]

    return [_with_turns(texts, columns, turn_texts)]


def _roles(turns: Turns) -> Turns:
    return [_renamed(turn) for turn in turns]


def _renamed(turn: dict[str, Any]) -> dict[str, Any]:
    names = {"from": "role", "value": "content"}
    found = {names[key] if key in names and names[key] not in turn else key: value for key, value in turn.items()}
    role = found.get("role")
    if isinstance(role, str):
        plain = role.strip().lower()
        found["role"] = ROLES.get(plain, plain)
    return found


def _null_content(turns: Turns) -> Turns:
    def mended(turn: dict[str, Any]) -> dict[str, Any]:
        key = "value" if "value" in turn and "content" not in turn else "content"
        return {**turn, key: ""} if turn.get(key) is None else turn

    return [mended(turn) for turn in turns]


def _system_into_user(data: Data, columns: Columns, _options: Mapping[str, Any]) -> list[dict[str, Any]]:
    row = dict(data)
    system, user = columns.get("system", ""), columns.get("user", "")
    if isinstance(row.get(system), str) and isinstance(row.get(user), str):
        row[user] = _joined(row[system], row[user])
        row[system] = ""

    def merged(turns: Turns) -> Turns:
        if "messages" in columns and isinstance(row.get(system), str) and row[system]:
            turns, row[system] = [{"role": "system", "content": row[system]}, *turns], ""
        if len(turns) < 2 or turns[0].get("role") != "system" or turns[1].get("role") != "user":
            return turns
        return [{**turns[1], "content": _joined(turns[0].get("content"), turns[1].get("content"))}, *turns[2:]]

    changed = _with_turns(row, columns, merged)
    return [{**changed, system: row[system]} if system in row else changed]


def _merge_turns(turns: Turns) -> Turns:
    merged: Turns = []
    for turn in turns:
        before = merged[-1] if merged else {}
        plain = set(turn) == set(before) == {"role", "content"} and turn["role"] != "tool"
        if plain and turn["role"] == before["role"] and isinstance(turn["content"], str) and isinstance(before["content"], str):
            merged[-1] = {**before, "content": _joined(before["content"], turn["content"])}
        else:
            merged.append(turn)
    return merged


def _strip_bos(data: Data, columns: Columns, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """options["bos"]: the token's text."""
    firsts = {columns[target] for target in ("text", "prompt", "chosen", "rejected") if target in columns}
    bos = str(options["bos"])
    return [{name: value.removeprefix(bos) if name in firsts and isinstance(value, str) else value for name, value in data.items()}]


def _pin_date(data: Data, columns: Columns, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """options["date"]: what the template shall print."""
    source = columns.get(KWARGS, KWARGS)
    return [{**data, source: {**(data.get(source) or {}), "date_string": options["date"]}}]


def _split_reasoning(data: Data, columns: Columns, _options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The conversation so far as prompt and one assistant turn as completion, so that each turn is learnt once, with its reasoning."""
    source = columns.get("messages", "")
    if not is_talk(data.get(source)):
        return [dict(data)]
    turns = _roles(data[source])
    if columns.get("system") and data.get(columns["system"]) and turns[0].get("role") != "system":
        turns.insert(0, {"role": "system", "content": data[columns["system"]]})
    rest = {name: value for name, value in data.items() if name not in (source, columns.get("system"))}
    answers = [at for at, turn in enumerate(turns) if turn.get("role") == "assistant" and at]
    return [{**rest, "prompt": turns[:at], "completion": [turns[at]]} for at in answers]


def _with_turns(data: Data, columns: Columns, change: Callable[[Turns], Turns]) -> dict[str, Any]:
    sources = {columns[target] for target in TALKS if target in columns}
    return {name: change(value) if name in sources and is_talk(value) else value for name, value in data.items()}


def _of_turns(change: Callable[[Turns], Turns]) -> Step:
    return lambda data, columns, options: [_with_turns(data, columns, change)]


def _joined(first: Any, second: Any) -> Any:
    if not isinstance(first, str) or not isinstance(second, str):
        return second if first in (None, "") else first
    return f"{first}\n\n{second}" if first and second else first or second


STEPS: dict[str, Step] = {
    "as-text": _as_text,
    "roles": _of_turns(_roles),
    "null-content": _of_turns(_null_content),
    "system-into-user": _system_into_user,
    "merge-turns": _of_turns(_merge_turns),
    "strip-bos": _strip_bos,
    "pin-date": _pin_date,
    "split-reasoning": _split_reasoning,
}


def columns_after(columns: Columns, steps: tuple[str, ...], *, written: bool) -> dict[str, str] | None:
    """What a source's columns must be when these steps were taken; None when they stay as they are. `written`: the recipe names them."""
    found = dict(columns)
    if "pin-date" in steps:
        found.setdefault(KWARGS, KWARGS)
    if "split-reasoning" in steps and "messages" in found:
        gone = ("messages", "system")
        found = {"prompt": "prompt", "completion": "completion", **{name: source for name, source in found.items() if name not in gone}}
        written = True  # by their names alone prompt and completion would not bring tools along
    return found if written and found != dict(columns) else None
