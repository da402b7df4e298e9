"""From a row's own columns to what TRL trains on.

`columns` of a recipe maps target to source. The shapes that come out are TRL's:
    {"messages": […]}                                     conversational, every turn in one list
    {"prompt": […], "completion": […]}                    conversational; TRL's loss is on the completion by default
    {"prompt": str, "completion": str} or {"text": str}   raw strings, no chat template (lists of turns: conversational)
    {"prompt"?: …, "chosen": …, "rejected": …}            preferences, strings or conversations
    {"prompt": …, …}                                      prompts that the model answers itself; other columns for the reward functions
"""

from collections.abc import Collection, Mapping
from typing import Any

from tuitune.dataset.sources import Row
from tuitune.errors import UserError
from tuitune.text import printable

ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant"}
PASSED_ON = ("tools", "chat_template_kwargs", "label")  # columns of TRL's own that keep their name
TEXTS = ("prompt", "completion", "chosen", "rejected")  # targets that are strings or lists of turns
TURNS = ("system", "user", "context", "assistant", "reasoning", "messages", "text")  # targets that are made into something else
OPTIONAL = ("system", "context", "reasoning", *PASSED_ON)  # targets that a row may lack

# (columns that must be there, the mapping) in order of preference
_KNOWN: tuple[tuple[frozenset[str], dict[str, str]], ...] = (
    (frozenset({"chosen", "rejected", "prompt"}), {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}),
    (frozenset({"chosen", "rejected"}), {"chosen": "chosen", "rejected": "rejected"}),
    (frozenset({"messages"}), {"messages": "messages"}),
    (frozenset({"conversations"}), {"messages": "conversations"}),
    (frozenset({"prompt", "completion"}), {"prompt": "prompt", "completion": "completion"}),
    (frozenset({"question", "answer"}), {"user": "question", "assistant": "answer"}),
    (frozenset({"instruction", "input", "output"}), {"user": "instruction", "context": "input", "assistant": "output"}),
    (frozenset({"instruction", "output"}), {"user": "instruction", "assistant": "output"}),
    (frozenset({"instruction", "response"}), {"user": "instruction", "assistant": "response"}),
    (frozenset({"prompt", "response"}), {"user": "prompt", "assistant": "response"}),
    (frozenset({"text"}), {"text": "text"}),
)


def guess_columns(names: Collection[str]) -> dict[str, str] | None:
    """The mapping that column names of well-known data sets ask for (GSM8K, Alpaca, ShareGPT, messages …), or None."""
    mapping = next((mapping for needed, mapping in _KNOWN if needed <= set(names)), None)
    if mapping is None:
        return None
    talk = "user" in mapping or "messages" in mapping
    more = [name for name in ("system", "tools", "chat_template_kwargs") if talk and name in names]
    return {**mapping, **{name: name for name in more}}


def mapping_for(row: Row, columns: Mapping[str, str] | None) -> dict[str, str]:
    """The recipe's mapping, or the one the first row's names ask for; UserError with an example when neither will do."""
    names = ", ".join(printable(name) for name in row.data)
    if not columns:
        guessed = guess_columns(row.data)
        if guessed is None:
            raise UserError(
                f"{printable(row.file)} has the columns {names}, which tuitune does not know by name; say what they are, "
                "e.g. columns: {user: QUESTION_COLUMN, assistant: ANSWER_COLUMN}"
            )
        return guessed
    missing = [source for target, source in columns.items() if source not in row.data and target not in OPTIONAL]
    if missing:
        raise UserError(f"{printable(row.file)} has no column {printable(missing[0])!r}; it has {names}. Correct `columns` of that source")
    return dict(columns)


def convert(row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    """One row in TRL's shape. UserError names file and line of a row that does not fit."""
    values = {target: row.data.get(source) for target, source in columns.items()}
    if "assistant" in values or "user" in values:
        return {**_conversation(values, row), **_passed_on(values)}
    if "messages" in values:
        turns = _messages(values["messages"], row)
        if values.get("system") and turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": _string(values["system"], "system", row)})
        return {"messages": turns, **_passed_on(values)}
    found: dict[str, Any] = {name: _text_or_messages(values[name], name, row) for name in TEXTS if name in values}
    if "text" in values:
        found["text"] = _string(values["text"], "text", row)
    if not any(needed <= set(found) for needed in ({"text"}, {"prompt"}, {"chosen", "rejected"})):
        raise UserError(
            f"{printable(row.file)}: columns {sorted(columns)} make no training row; give user and assistant, messages, or text"
        )
    return {**found, **_passed_on(values)}


def _question(values: Mapping[str, Any], row: Row) -> list[dict[str, Any]]:
    question = _string(values.get("user"), "user", row)
    context = values.get("context")
    if context is not None and (text := _string(context, "context", row)).strip():
        question = f"{question}\n\n{text}"
    prompt: list[dict[str, Any]] = [{"role": "user", "content": question}]
    if values.get("system"):
        prompt.insert(0, {"role": "system", "content": _string(values["system"], "system", row)})
    return prompt


def _conversation(values: Mapping[str, Any], row: Row) -> dict[str, Any]:
    prompt = _question(values, row)
    if "assistant" not in values:
        return {"prompt": prompt}
    answer = {"role": "assistant", "content": _string(values.get("assistant"), "assistant", row)}
    if values.get("reasoning"):
        answer["reasoning_content"] = _string(values["reasoning"], "reasoning", row)
    return {"prompt": prompt, "completion": [answer]}


def _messages(value: Any, row: Row) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise _unfit(row, "messages", value, "a list of {role, content}")
    turns = []
    for turn in value:
        if not isinstance(turn, dict):
            raise _unfit(row, "messages", turn, "turns that are objects {role, content}")
        role = turn.get("role", turn.get("from"))
        if not isinstance(role, str):
            raise _unfit(row, "role", role, "a role in every turn")
        content = turn.get("content", turn.get("value"))
        rest = {key: item for key, item in turn.items() if key not in ("role", "from", "content", "value") and item is not None}
        turns.append({"role": ROLES.get(role, role), "content": "" if content is None else content, **rest})
    return turns


def _text_or_messages(value: Any, name: str, row: Row) -> Any:
    return _messages(value, row) if isinstance(value, list) else _string(value, name, row)


def _string(value: Any, name: str, row: Row) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:  # NaN is what pandas writes for nothing
        return str(value)
    raise _unfit(row, name, value, "text")


def _passed_on(values: Mapping[str, Any]) -> dict[str, Any]:
    foreign = {name: value for name, value in values.items() if name not in (*TEXTS, *TURNS, *PASSED_ON)}  # only reward functions take some
    return {name: values[name] for name in PASSED_ON if values.get(name) is not None} | foreign


def _unfit(row: Row, name: str, value: Any, wanted: str) -> UserError:
    shown = "nothing" if value is None else printable(repr(value), limit=60)
    return UserError(f"{printable(row.file)}:{row.line}: {name} is {shown}, where {wanted} is needed; mend or remove that row")
