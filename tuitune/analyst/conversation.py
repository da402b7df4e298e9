"""The conversations of a training row, and what the trainer hands to the template beside them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

Turns = list[Mapping[str, Any]]


def messages_of(example: Mapping[str, Any], name: str) -> Turns | None:
    """The conversation behind a sequence ("input", "chosen" or "rejected"); None for plain text."""
    if "messages" in example:
        return list(example["messages"])
    nothing: Turns | None = [] if "prompt" in example else None  # prompts that the model answers itself
    prompt, answer = example.get("prompt", []), example.get("completion" if name == "input" else name, nothing)
    return [*prompt, *answer] if isinstance(prompt, list) and isinstance(answer, list) else None


def conversations(example: Mapping[str, Any]) -> Iterator[tuple[str, Turns]]:
    """(name, turns) of every conversation of a row; none for plain text."""
    for name in ("chosen", "rejected") if "chosen" in example else ("input",):
        turns = messages_of(example, name)
        if turns is not None:
            yield name, turns


def render_options(example: Mapping[str, Any]) -> dict[str, Any]:
    """What TRL hands to apply_chat_template beside the turns; tools may be written as JSON."""
    tools = example.get("tools")
    return {"tools": json.loads(tools) if isinstance(tools, str) else tools, **(example.get("chat_template_kwargs") or {})}
