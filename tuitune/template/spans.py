"""Which characters of a rendered conversation come from which turn, and from what of it.

Nothing is guessed. Two questions are asked of the template itself, and an answer counts only when it is proven:
- Which turn? Rendering the first k turns for every k: where each render is the beginning of the next, what is added belongs to turn k.
- What of it? Every text of the data (content, reasoning, tool arguments …) is put between two private characters and rendered again:
  where taking them out gives the plain render, the characters between them come from that text, and the others from the template.
A template that looks into its texts, or forgets earlier turns, can fail either proof; then the answer is UNKNOWN.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

UNKNOWN = "unknown"
TEMPLATE = "template"
REASONING = ("reasoning_content", "reasoning", "thinking")  # names that models' templates have for it
_FIRST = 0xF0000  # Unicode's private plane 15: no tokenizer's data needs it, and rows that use it anyway are not marked
_LAST = 0xFFFFD
_MARKS = re.compile(f"[{chr(_FIRST)}-{chr(_LAST)}]")

Render = Callable[[list[dict[str, Any]]], str]
Message = Mapping[str, Any]


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` of the render. `role`: of the turn they belong to, "template" before the first turn's text; `source`:
    the text they come from ("content", "reasoning_content", "tool_calls"), or "template"; either may be "unknown"."""

    start: int
    end: int
    role: str
    source: str


def spans(messages: Sequence[Message], render: Render, rendered: str | None = None) -> list[Span]:
    """The render of `messages` cut into spans without gaps. `render` raises what the template raises."""
    turns = [dict(message) for message in messages]
    text = render(turns) if rendered is None else rendered
    roles = _turns(turns, render, text)
    sources = text_sources(turns, render, text)
    roles = [turn for turn in roles if not _holds_the_next_header(turn[1], sources, text)]
    borders = sorted({0, len(text), *(at for start, end, _ in roles for at in (start, end)), *(at for s in sources for at in s[:2])})
    first = next((start for start, _, source, _ in sources if source != UNKNOWN), 0)
    found = []
    for start, end in pairwise(borders):
        role = next((role for from_, to, role in roles if from_ <= start < to), UNKNOWN)
        inside = next((item for item in sources if item[0] <= start < item[1]), None)
        if inside is not None:
            found.append(Span(start, end, role if role != UNKNOWN else inside[3], inside[2]))
        else:  # what stands before the first text may be the turn's own header or a preamble (a default system prompt): TEMPLATE's
            found.append(Span(start, end, TEMPLATE if end <= first else role, TEMPLATE))
    return found


def _turns(turns: list[dict[str, Any]], render: Render, text: str) -> list[tuple[int, int, str]]:
    """(start, end, role) of each turn both of whose borders are proven."""
    found, start, proven = [], 0, 0  # the first `proven` turns are the first `start` characters
    for count in range(1, len(turns) + 1):
        try:
            part = text if count == len(turns) else render(turns[:count])
        except Exception:  # templates refuse half a conversation in any way they like
            continue
        if text.startswith(part) and len(part) >= start:
            if proven == count - 1:
                found.append((start, len(part), str(turns[count - 1].get("role", UNKNOWN))))
            start, proven = len(part), count
    return found


def _holds_the_next_header(border: int, sources: list[tuple[int, int, str, str]], text: str) -> bool:
    """Whether a turn that ends at `border` may have the next one's header in it: a template that prints the assistant's header unasked
    ends the turn before an assistant's text as it ends the whole."""
    if not any(start == border and role == "assistant" for start, _, _, role in sources):
        return False
    before = max((end for _, end, _, _ in sources if end <= border), default=border)
    return before < border and text[before:border] == text[max(end for _, end, _, _ in sources) :]


def text_sources(turns: list[dict[str, Any]], render: Render, text: str) -> list[tuple[int, int, str, str]]:
    """(start, end, source, role) of every text of the data in the render `text`; all of it is unknown when that cannot be proven."""
    if not _MARKS.search(text):
        for trimmed in (False, True):  # a template that trims its texts would move marks that stand outside of their blanks
            marker = _Marker(trimmed)
            marked = [marker.turn(turn) for turn in turns]
            if not marker.labels:
                return []
            try:
                found = marker.found(render(marked), text)
            except Exception:  # as above
                continue
            if found is not None:
                return found
    return [(0, len(text), UNKNOWN, UNKNOWN)]


class _Marker:
    """Puts a pair of private characters round every text of a conversation and remembers whose each pair is."""

    def __init__(self, trimmed: bool) -> None:
        self.trimmed = trimmed
        self.labels: list[tuple[str, str, str]] = []  # (source, role, the text)

    def turn(self, turn: dict[str, Any]) -> dict[str, Any]:
        """A copy of the turn with its texts marked."""
        role = str(turn.get("role", UNKNOWN))
        marked = dict(turn)
        for name in ("content", *REASONING):
            if isinstance(turn.get(name), str):
                marked[name] = self._text(turn[name], name, role)
        if isinstance(turn.get("content"), list):
            marked["content"] = [self._part(part, role) for part in turn["content"]]
        if isinstance(turn.get("tool_calls"), list):
            marked["tool_calls"] = self._leaves(turn["tool_calls"], role)
        return marked

    def _part(self, part: Any, role: str) -> Any:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            return {**part, "text": self._text(part["text"], "content", role)}
        return part

    def _leaves(self, value: Any, role: str) -> Any:
        if isinstance(value, str):
            return self._text(value, "tool_calls", role)
        if isinstance(value, list):
            return [self._leaves(item, role) for item in value]
        if isinstance(value, dict):
            return {key: item if key == "type" else self._leaves(item, role) for key, item in value.items()}
        return value

    def _text(self, text: str, source: str, role: str) -> str:
        inner = text.strip()
        if not inner or 2 * len(self.labels) + 1 > _LAST - _FIRST:
            return text
        code = _FIRST + 2 * len(self.labels)
        self.labels.append((source, role, text))
        at = text.index(inner) if self.trimmed else 0
        to = at + len(inner) if self.trimmed else len(text)
        return f"{text[:at]}{chr(code)}{text[at:to]}{chr(code + 1)}{text[to:]}"

    def found(self, marked: str, plain: str) -> list[tuple[int, int, str, str]] | None:
        """(start, end, source, role) of each text in the plain render, or None when the marks changed what the template prints."""
        if _MARKS.sub("", marked) != plain:
            return None
        places: list[tuple[int, int, str, str]] = []
        opened: dict[int, int] = {}
        for before, mark in enumerate(_MARKS.finditer(marked)):
            code, at = ord(mark[0]), mark.start() - before
            if (code - _FIRST) % 2 == 0:
                opened[code] = at
            elif code - 1 in opened:
                places += self._place(opened.pop(code - 1), at, plain, *self.labels[(code - 1 - _FIRST) // 2])
            else:
                return None  # half a pair: the template cut the text
        return None if opened else sorted(places)

    def _place(self, start: int, end: int, plain: str, source: str, role: str, text: str) -> Iterator[tuple[int, int, str, str]]:
        yield start, end, source, role
        if self.trimmed:  # blanks that both the text and the render have here may be the text's or the template's
            before = len(_common(text[: len(text) - len(text.lstrip())][::-1], plain[:start][::-1]))
            after = len(_common(text[len(text.rstrip()) :], plain[end:]))
            yield from ((at, to, UNKNOWN, role) for at, to in ((start - before, start), (end, end + after)) if at < to)


def _common(one: str, other: str) -> str:
    """The beginning that two texts share."""
    length = next((at for at, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    return one[:length]


def of_tokens(offsets: Sequence[tuple[int, int]], parts: Sequence[Span]) -> Iterator[tuple[str, str]]:
    """(role, source) of each token by its characters. A token over a border has both, joined by "+"; one without characters is unknown."""
    index = 0
    for start, end in offsets:
        if end <= start:
            yield UNKNOWN, UNKNOWN
            continue
        while index < len(parts) and parts[index].end <= start:
            index += 1
        while index > 0 and parts[index - 1].end > start:
            index -= 1
        roles: dict[str, None] = {}
        sources: dict[str, None] = {}
        for part in parts[index:]:
            if part.start >= end:
                break
            roles[part.role] = sources[part.source] = None
        yield "+".join(roles) or UNKNOWN, "+".join(sources) or UNKNOWN
