"""Where the data's texts stand in renders of many conversations, without a second render of each.

What a template prints round the texts is learnt from a conversation whose places are proven (spans.text_sources). Another one with the same
roles is looked at by filling its texts in: where that gives its render, character by character, the places are known.
"""

from collections.abc import Sequence

from tuitune.template.spans import Message, Render, text_sources

Sources = list[tuple[int, int, str, str]]


class Skeletons:
    """`sources` is spans.text_sources, quicker when asked of many conversations of the same template."""

    def __init__(self) -> None:
        self._literals: dict[tuple[str, ...], list[str]] = {}  # roles → what is printed before each text, and behind the last

    def sources(self, turns: Sequence[Message], render: Render, text: str) -> Sources:
        """(start, end, source, role) of every text of the data in the render `text`; all of it is unknown when that cannot be proven."""
        roles = _roles(turns)
        if roles is not None and roles in self._literals:
            found = _filled(self._literals[roles], turns, text)
            if found is not None:
                return found
        found = text_sources([dict(turn) for turn in turns], render, text)
        if roles is not None and [text[start:end] for start, end, *_ in found] == [turn["content"] for turn in turns]:
            ends = [0, *(end for _, end, *_ in found)]
            self._literals[roles] = [text[end:start] for end, start in zip(ends, [*(start for start, *_ in found), len(text)])]
        return found


def _roles(turns: Sequence[Message]) -> tuple[str, ...] | None:
    """The roles of turns that are nothing but role and text; None for others."""
    plain = all(len(turn) == 2 and isinstance(turn.get("content"), str) and turn["content"].strip() and "role" in turn for turn in turns)
    return tuple(str(turn["role"]) for turn in turns) if plain else None


def _filled(literals: Sequence[str], turns: Sequence[Message], text: str) -> Sources | None:
    """The places of the turns' texts between the literals, None when that is not the render `text`."""
    found: Sources = []
    parts: list[str] = []
    end = 0
    for literal, turn in zip(literals, turns):
        start = end + len(literal)
        end = start + len(turn["content"])
        parts += [literal, turn["content"]]
        found.append((start, end, "content", str(turn["role"])))
    return found if "".join([*parts, literals[-1]]) == text else None
