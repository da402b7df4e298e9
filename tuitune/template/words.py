"""Which texts of a conversation a template prints: each is replaced by a word of its own, and the render is searched for these words.

What is found so holds for every conversation of the same shape, whatever its texts are; a template that looks into its texts for more
than reasoning can still treat one of them in another way.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuitune.template.spans import REASONING, UNKNOWN, Message, Render

THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)  # reasoning that stands in the content

Turns = list[dict[str, Any]]
Shape = tuple[Any, ...]


@dataclass(frozen=True)
class Word:
    """What stands for a text of turn `turn` (from 0). source: "content", "reasoning" or "tool_calls"."""

    turn: int
    role: str
    source: str
    word: str


def shape_of(turns: Sequence[Message]) -> Shape:
    """What two conversations have in common that differ in their texts only."""
    return tuple([_turn_shape(turn) for turn in turns])


def _turn_shape(turn: Message) -> Any:
    content = turn.get("content")
    if len(turn) == 2:  # role and content: nearly all turns there are
        return turn.get("role"), _kind(content)
    return turn.get("role"), _kind(content), tuple(sorted(key for key, value in turn.items() if value)), _calls(turn)


def _kind(content: Any) -> Any:
    if isinstance(content, str):
        return "blank" if not content or content.isspace() else "thought" if "<think>" in content and THOUGHT.search(content) else "text"
    if isinstance(content, list):
        return tuple(part.get("type") if isinstance(part, dict) else type(part).__name__ for part in content)
    return type(content).__name__


def _calls(turn: Message) -> Any:
    calls = turn.get("tool_calls")
    if not isinstance(calls, list):
        return None
    return tuple(type(_function(call).get("arguments")).__name__ for call in calls)


def _function(call: Any) -> Mapping[str, Any]:
    inner = call.get("function", call) if isinstance(call, Mapping) else {}
    return inner if isinstance(inner, Mapping) else {}


def in_words(turns: Sequence[Message]) -> tuple[Turns, list[Word]]:
    """A copy of the turns with a word for each text that is not blank, and these words."""
    found: list[Word] = []
    return [_Turn(at, turn, found).copy() for at, turn in enumerate(turns)], found


def unprinted(turns: Sequence[Message], render: Render) -> list[Word]:
    """The texts that the template does not print. `render` raises what the template raises."""
    copies, words = in_words(turns)
    text = render(copies)
    return [word for word in words if word.word not in text]


class _Turn:
    """Replaces the texts of one turn."""

    def __init__(self, at: int, turn: Message, found: list[Word]) -> None:
        self.at, self.turn, self.found = at, turn, found

    def copy(self) -> dict[str, Any]:
        copied = dict(self.turn)
        thoughts = [name for name in REASONING if isinstance(copied.get(name), str) and copied[name].strip()]
        if thoughts:  # names for one and the same: transformers hands on the first under the others
            copied |= dict.fromkeys(thoughts, self._word("reasoning"))
        if "content" in copied:
            copied["content"] = self._content(copied["content"])
        if isinstance(copied.get("tool_calls"), list):
            copied["tool_calls"] = [self._call(call) for call in copied["tool_calls"]]
        return copied

    def _word(self, source: str) -> str:
        word = f"tuitune{len(self.found):04d}x"
        self.found.append(Word(self.at, str(self.turn.get("role", UNKNOWN)), source, word))
        return word

    def _content(self, content: Any) -> Any:
        if isinstance(content, list):
            return [{**part, "text": self._word("content")} if _is_text(part) else part for part in content]
        if not isinstance(content, str) or not content.strip():
            return content
        thought = THOUGHT.search(content)
        if thought is None or not thought.group(1).strip():
            return self._word("content")
        rest = content[thought.end() :].strip()
        return f"<think>\n{self._word('reasoning')}\n</think>\n\n{self._word('content') if rest else ''}"

    def _call(self, call: Any) -> Any:
        function = _function(call)
        if not function:
            return call
        changed = dict(function)
        if isinstance(function.get("name"), str):
            changed["name"] = self._word("tool_calls")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                changed["arguments"] = json.dumps(self._leaves(json.loads(arguments)))
            except ValueError:
                changed["arguments"] = self._word("tool_calls")
        elif arguments is not None:
            changed["arguments"] = self._leaves(arguments)
        return {**call, "function": changed} if "function" in call else changed

    def _leaves(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._leaves(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._leaves(item) for item in value]
        return value if value in (None, "") or isinstance(value, bool) else self._word("tool_calls")


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str) and bool(part["text"].strip())
