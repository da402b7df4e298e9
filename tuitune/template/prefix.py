"""The prefix test: whether the render of a conversation's first turns is the beginning of the render with one turn more.

Where it is not, a model that has answered turn by turn has seen other text than the one it is trained on.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tuitune.template.difference import cut_short, show_ids
from tuitune.template.document import Fault, Turn
from tuitune.template.spans import UNKNOWN, Message
from tuitune.text import printable

ASSISTANT = "assistant"


class Prompting(Protocol):
    """Renders turns, with the template's generation prompt behind them when it is asked for."""

    def __call__(self, turns: list[dict[str, Any]], prompt: bool = False) -> str: ...


def prefix_test(
    messages: Sequence[Message], render: Prompting, encode: Callable[[str], list[int]], text: str
) -> tuple[list[Turn], list[Fault]]:
    """Every turn of a conversation whose render is `text`, and what fails. The prompt is tested before the assistant's turns only."""
    turns = [dict(message) for message in messages]
    whole = encode(text)
    renders: list[str | None] = []
    found: list[Turn] = []
    faults: list[Fault] = []
    for count, turn in enumerate(turns, 1):
        part, refused = (text, None) if count == len(turns) else _tried(lambda count=count: render(turns[:count]))  # type: ignore[misc]
        renders.append(part)
        asked = None
        if count > 1 and turn.get("role") == ASSISTANT:
            asked, _ = _tried(lambda count=count: render(turns[: count - 1], prompt=True))  # type: ignore[misc]
        if part is not None:
            ids = whole if count == len(turns) else encode(part)
            before = next((old for old in reversed(renders[:-1]) if old is not None), None)
            for test, earlier in (("turns", before), ("prompt", asked)):
                if earlier is not None:
                    faults += _fault(count, test, earlier, part, encode, ids)
        is_start = part is not None and text.startswith(part)
        found.append(
            Turn(
                str(turn.get("role", UNKNOWN)),
                end=len(part) if part is not None and is_start else None,
                prompt=len(asked) if asked is not None and text.startswith(asked) else None,
                alone=None if is_start else part,
                refused=refused,
            )
        )
    return found, faults


def _tried(render: Callable[[], str]) -> tuple[str | None, str | None]:
    """The render, or why there is none: templates refuse half a conversation in any way they like."""
    try:
        return render(), None
    except Exception as error:
        return None, printable(f"{type(error).__name__}: {error}", limit=200)


def _fault(turn: int, test: str, earlier: str, later: str, encode: Callable[[str], list[int]], ids: list[int]) -> list[Fault]:
    difference = cut_short(earlier, later)
    if difference is not None:
        return [Fault(turn, test, "text", difference)]
    difference = cut_short(encode(earlier), ids, show_ids)
    return [Fault(turn, test, "tokens", difference)] if difference is not None else []
