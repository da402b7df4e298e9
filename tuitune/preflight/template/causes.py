"""Why a chat template refuses a conversation: what has to be changed in it so that it is rendered."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from tuitune.dataset.columns import ROLES
from tuitune.template.spans import Message

SYSTEM = ("system", "developer")
KNOWN = ("system", "developer", "user", "assistant", "tool", "function", "ipython", "environment", "observation")
TOOLS = KNOWN[4:]  # roles that hold what a tool returned

Turns = list[dict[str, Any]]


def known_role(role: Any) -> Any:
    """The role that is meant: "Human" is a user, "GPT" an assistant."""
    plain = str(role).strip().lower()
    return ROLES.get(plain, plain)


def with_known_roles(turns: Sequence[Message]) -> Turns:
    """Turns under the roles that are meant."""
    return [{**turn, "role": known_role(turn.get("role"))} for turn in turns]


def without_tools(turns: Sequence[Message]) -> Turns:
    """The conversation as it would be had no tool been called."""
    plain = [{key: value for key, value in turn.items() if key not in ("tool_calls", "tool_call_id")} for turn in turns]
    if plain == [dict(turn) for turn in turns] and not any(turn.get("role") in TOOLS for turn in turns):
        return plain
    return merged([turn for turn in plain if turn.get("role") not in TOOLS and turn.get("content") not in (None, "")])


def without_system(turns: Sequence[Message]) -> Turns:
    """Turns without instructions of the system."""
    return [dict(turn) for turn in turns if turn.get("role") not in SYSTEM]


def merged(turns: Sequence[Message]) -> Turns:
    """Turns of one role that follow each other, as one."""
    found: Turns = []
    for turn in turns:
        if found and found[-1].get("role") == turn.get("role"):
            texts = [one.get("content") for one in (found[-1], turn)]
            found[-1]["content"] = "\n\n".join(map(str, texts))
        else:
            found.append(dict(turn))
    return found


REPAIRS: dict[str, Callable[[Sequence[Message]], Turns]] = {
    "TPL08": without_tools,
    "TPL11": with_known_roles,
    "TPL09": without_system,
    "TPL10": merged,
}


def causes(turns: Sequence[Message], error: Exception, fails: Callable[[Turns], bool]) -> list[str]:
    """The checks that explain why the template raised `error` for `turns`: those whose repairs, as few as possible, make it render.

    `fails`: whether it raises for other turns. [] when no repair helps and the error does not say itself what it is.
    """
    if not turns:
        return []
    given = [dict(turn) for turn in turns]
    able = [id for id, repair in REPAIRS.items() if repair(given) != given]
    for count in (1, 2, 3):
        for chosen in combinations(able, count):
            changed = given
            for id in chosen:
                changed = REPAIRS[id](changed)
            if changed and not fails(changed):
                return list(chosen)
    return ["TPL10"] if "alternate" in str(error).lower() else []
