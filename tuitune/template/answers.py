"""Which characters of a render the assistant has to write itself: from behind the generation prompt to the end of its turn.

Proven from the spans and the prefix test; where they prove nothing there is no answer but a reason.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from tuitune.template.difference import first_difference
from tuitune.template.document import Conversation
from tuitune.template.prefix import ASSISTANT
from tuitune.template.spans import TEMPLATE, UNKNOWN, Span
from tuitune.text import printable


class Token(NamedTuple):
    """Characters `start` to `end` of the render. special: it may end a turn; eos: it is the tokenizer's own end of text."""

    start: int
    end: int
    special: bool = False
    eos: bool = False


@dataclass(frozen=True)
class Answer:
    """Characters `start` to `end`; `ended`: a token that ends the turn is the last of them."""

    start: int
    end: int
    ended: bool


class Unproven(Exception):
    """What the assistant writes in this render cannot be told; the text says why."""


def answers(talk: Conversation, tokens: Sequence[Token], specials: Collection[str] = ()) -> list[Answer]:
    """The answers of a conversation in their order. `specials`: texts of the special tokens. Raises Unproven."""
    if talk.error is not None:
        raise Unproven(talk.error)
    if talk.text and all(part.source == UNKNOWN for part in talk.spans):
        raise Unproven("the template looks into the texts or forgets them, so nobody can tell which characters are the data's")
    _check_end(talk, tokens)
    borders = _borders(talk, tokens, specials)
    ends = [_closing(talk.text, tokens, start, end) for start, end in _pairs(borders) if end < len(talk.text)]
    enders = {talk.text[closing[-1].start : closing[-1].end] for closing in ends if closing}
    found = []
    for texts, prompt, end in _turns(talk, borders):
        first, last = texts if texts else (prompt, prompt)
        assert first is not None
        assert last is not None
        stop = _stop(talk.text, tokens, last, end, enders)
        found.append(Answer(first if prompt is None else min(first, prompt), stop or last, stop is not None))
    return found


def _check_end(talk: Conversation, tokens: Sequence[Token]) -> None:
    """Some templates begin another turn of the assistant behind the last one, whether they are asked to or not."""
    if not talk.deaf or not talk.turns or talk.turns[-1].role != ASSISTANT:
        return
    last = max((part.end for part in talk.spans if part.source not in (TEMPLATE, UNKNOWN)), default=0)
    end = next((token.end for token in tokens if token.start >= last and token.special), None)
    if end is not None and any(token.start >= end and _solid(talk.text, token) for token in tokens):
        raise Unproven(
            f"behind the last answer the template goes on with {printable(repr(talk.text[end:]), limit=80)}, asked for a generation prompt "
            "or not: a model trained so learns to go on; correct the template first"
        )


def _solid(text: str, token: Token) -> bool:
    """Whether a token is neither special nor blank."""
    return not token.special and not text[token.start : token.end].isspace()


def _pairs(borders: Sequence[int | None]) -> list[tuple[int, int]]:
    """(start, end) of the turns both of whose borders are proven."""
    return [(start, end) for start, end in pairwise([0, *borders]) if start is not None and end is not None and start <= end]


def _borders(talk: Conversation, tokens: Sequence[Token], specials: Collection[str]) -> list[int | None]:
    """Where each turn ends in the render. Some templates close the last turn in a way of their own (one special token more, or another
    one), so that the render of fewer turns is the beginning of the whole one up to that token."""
    found: list[int | None] = []
    for turn in talk.turns:
        border = turn.end
        if border is None and turn.alone is not None:
            difference = first_difference(turn.alone, talk.text)
            assert difference is not None
            border = max((token.start for token in tokens if token.start <= difference.at), default=None)
            if border is not None and turn.alone[border:].strip() not in specials:
                border = None
        found.append(border)
    return found


def _turns(talk: Conversation, borders: Sequence[int | None]) -> Iterator[tuple[tuple[int, int] | None, int | None, int | None]]:
    """(first and last character of its texts, end of the generation prompt, end of the turn) of each turn of the assistant.

    None: no text, no prompt, no proven end. Turns whose borders are not proven are told apart by the texts of others between them."""
    for turn, (start, end) in zip(talk.turns, pairwise([0, *borders]), strict=True):
        if turn.role == ASSISTANT and start is not None and end is not None and start <= end:
            texts = _texts(part for part in talk.spans if start <= part.start and part.end <= end)
            prompt = turn.prompt if turn.prompt is not None and start < turn.prompt <= (texts[0] if texts else end) else None
            if texts or prompt is not None:
                yield texts, prompt, end
    for group in _groups(talk.spans, _pairs(borders)):
        yield _texts(group), None, None


def _groups(parts: Sequence[Span], proven: Sequence[tuple[int, int]]) -> Iterator[list[Span]]:
    """The assistant's texts outside of the proven turns, those next to each other together."""
    group: list[Span] = []
    for part in parts:
        if part.source == TEMPLATE:
            continue
        if part.role == ASSISTANT and not any(start <= part.start and part.end <= end for start, end in proven):
            group.append(part)
        elif group:
            yield group
            group = []
    if group:
        yield group


def _texts(parts: Iterator[Span] | list[Span]) -> tuple[int, int] | None:
    own = [part for part in parts if part.source not in (TEMPLATE, UNKNOWN)]
    return (own[0].start, own[-1].end) if own else None


def _closing(text: str, tokens: Sequence[Token], start: int, end: int) -> list[Token]:
    """The special tokens at the end of `start` to `end`, with nothing but blanks between and behind them."""
    inside = [token for token in tokens if start <= token.start < token.end <= end]
    solid = [at for at, token in enumerate(inside) if _solid(text, token)]
    return [token for token in inside[solid[-1] + 1 if solid else 0 :] if token.special]


def _stop(text: str, tokens: Sequence[Token], last: int, end: int | None, enders: Collection[str]) -> int | None:
    """The end of the token that ends a turn whose texts end at `last`. The last turn may be followed by an end of the conversation, so
    that a token which ends other turns (`enders`) comes before it. Where the turn's own end is not proven, only the tokenizer's end of
    text right behind the texts counts."""
    if end is None:
        first = next((token for token in tokens if token.start >= last and token.special), None)
        return first.end if first is not None and first.eos else None
    closing = _closing(text, tokens, last, end)
    known = [token for token in closing if text[token.start : token.end] in enders] if end == len(text) else []
    return (known or closing)[-1].end if closing else None
