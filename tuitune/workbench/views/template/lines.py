"""What the template view draws: Jinja source in colours, renders in the colours of their roles, differences. Pure functions."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from rich.cells import cell_len

from tuitune.template.document import Conversation
from tuitune.template.spans import TEMPLATE, Span
from tuitune.text import printable
from tuitune.workbench.parts.role_lines import Line, Piece
from tuitune.workbench.views.recipe.compare import diff_lines
from tuitune.workbench.views.tokens.flow import look_of

LONGEST = 20_000  # characters of a render that are drawn
_STRING = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_TAG = re.compile(
    rf"(?P<comment>\{{\#.*?(?:\#\}}|\Z))|(?P<statement>\{{%(?:{_STRING}|(?!%\}}).)*(?:%\}}|\Z))"
    rf"|(?P<output>\{{\{{(?:{_STRING}|(?!\}}\}}).)*(?:\}}\}}|\Z))",
    re.DOTALL,
)
_INNER = re.compile(rf"(?P<string>{_STRING})|(?P<word>[A-Za-z_]\w*)", re.DOTALL)
_KEYWORDS = frozenset(
    "for endfor in if elif else endif set endset macro endmacro call endcall filter endfilter generation endgeneration break continue "
    "and or not is defined none true false loop raw endraw namespace".split()
)
LOOKS = {"comment": "dim", "string": "three", "keyword": "two", "delimiter": "one", "text": ""}


def highlighted(source: str) -> Iterator[Piece]:
    """The template's text in roles: delimiters, keywords, strings, comments."""
    at = 0
    for found in _TAG.finditer(source):
        yield source[at : found.start()], LOOKS["text"]
        at = found.end()
        if found.lastgroup == "comment":
            yield found.group(), LOOKS["comment"]
            continue
        code = found.group()
        stop = len(code) - 2 if code.endswith(("%}", "}}")) else len(code)
        yield code[:2], LOOKS["delimiter"]
        inner = 2
        for part in _INNER.finditer(code, 2, stop):
            yield code[inner : part.start()], ""
            word = part.lastgroup == "word"
            yield part.group(), LOOKS["keyword" if word and part.group() in _KEYWORDS else "text" if word else "string"]
            inner = part.end()
        yield code[inner:stop], ""
        yield code[stop:], LOOKS["delimiter"]
    yield source[at:], LOOKS["text"]


def flowed(pieces: Iterable[Piece], width: int, *, numbers: bool = False, ends: bool = False) -> list[Line]:
    """Text over `width` cells: a line ends at its line feed, or goes on in the next one when it is too long. numbers: of the text's lines,
    at the left; ends: ↵ where a line feed is."""
    margin = 5 if numbers else 0
    number = 1
    lines: list[list[Piece]] = [[(f"{number:>4} ", "dim")] if numbers else []]
    room = max(8, width - margin)
    left = room
    for text, role in pieces:
        for index, part in enumerate(text.split("\n")):
            if index:
                number += 1
                if ends:
                    lines[-1].append(("↵", "dim"))
                lines.append([(f"{number:>4} ", "dim")] if numbers else [])
                left = room
            shown = printable(part.replace("\t", "→"))
            while shown:
                head, shown = _head(shown, left)
                if head:
                    lines[-1].append((head, role))
                    left -= cell_len(head)
                if shown:
                    lines.append([("     ", "dim")] if numbers else [])
                    left = room
    return [tuple(line) for line in lines]


def _head(text: str, cells: int) -> tuple[str, str]:
    """What of a text goes into so many cells, and the rest."""
    if cell_len(text) <= cells:
        return text, ""
    used = 0
    for at, character in enumerate(text):
        used += cell_len(character)
        if used > cells:
            return text[:at], text[at:]
    return text, ""


def look(part: Span) -> str:
    """How a span is drawn: the template's own text dim, the data's in its role."""
    return "dim" if part.source == TEMPLATE else look_of(part.role)


def turns_shown(talk: Conversation, count: int, *, marked: bool = False) -> list[Piece]:
    """The render of the first `count` turns, what the last of them adds underlined; marked: what the assistant writes instead."""
    turn = talk.turns[count - 1] if talk.turns else None
    if talk.error is not None:
        return [(talk.error, "error")]
    if turn is not None and turn.refused is not None:
        return [(f"the template does not render these turns alone: {turn.refused}", "warn")]
    if turn is not None and turn.alone is not None:
        return [(turn.alone[:LONGEST], "warn")]  # it is not the beginning of the whole render, whose spans say nothing about it
    end = len(talk.text) if turn is None or turn.end is None else turn.end
    under: list[tuple[int, int]] = []
    if marked:
        under = talk.answers or []
    elif count < len(talk.turns):
        under = [(max((earlier.end or 0 for earlier in talk.turns[: count - 1]), default=0), end)]
    left_out = talk.left_out + max(0, end - LONGEST)
    pieces = list(_underlined(talk, min(end, LONGEST), under))
    return [*pieces, (f"… (+{left_out:,} characters)", "dim")] if left_out else pieces


def _underlined(talk: Conversation, end: int, under: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    """The spans up to a character in their looks, cut where underlining begins and ends."""
    for part in talk.spans:
        if part.start >= end:
            break
        stop = min(part.end, end)
        cuts = sorted({part.start, stop, *(at for border in under for at in border if part.start < at < stop)})
        for first, last in pairwise(cuts):
            mark = "+under" if any(start <= first < until for start, until in under) else ""
            yield talk.text[first:last], look(part) + mark


def patch_pieces(patch: str) -> list[Piece]:
    """A unified diff in roles; its first two lines name the sources."""
    roles = {"+": "good", "-": "error", "@": "one"}
    return [(f"{line}\n", "title" if at < 2 else roles.get(line[:1], "")) for at, line in enumerate(patch.split("\n"))]


def differing(one: str, other: str) -> list[Piece]:
    """Two renders as one text, lines of the first with -, of the other with +."""
    roles = {"+": "good", "-": "error", "⋯": "dim"}
    return [(f"{line.sign} {line.text}\n", roles.get(line.sign, "")) for line in diff_lines(one[:LONGEST], other[:LONGEST])]
