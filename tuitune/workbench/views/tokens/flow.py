"""A row's tokens as flowing text: what each is drawn as, where it stands, how it looks. Pure functions over an Inspection.

Widths and columns are cells of the terminal, of which a character takes none, one or two.

A look is a role of RoleLines, with "+under" behind it for a token that is trained on (underlined) and "+cursor" for the chosen one.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells, split_text

from tuitune.analyst.document import IGNORED, Inspection, Row, Tokens, faults
from tuitune.text import printable
from tuitune.workbench.parts.role_lines import Line, Piece

LOOKS = {"assistant": "three", "user": "one", "system": "two", "tool": "warn", "template": "dim", "unknown": "error"}
LOOKS |= {"prompt": "one", "completion": "three", "chosen": "three", "rejected": "three", "text": "three"}  # columns of strings
PARTIAL = "▯"  # a piece of a character; its id is what can be said of it
_PIECES = re.compile("\N{REPLACEMENT CHARACTER}+")
SHOWN = {" ": "·", "\t": "→", "\n": "↵", "\r": "␍"}
CARRIER = "◌"  # what a mark stands on that would otherwise go onto the token before
ROLE = 40  # characters of a role: the data can call it what it likes
LONGEST = 200  # characters drawn of one token


@dataclass(frozen=True)
class Place:
    """Where a token begins: line and column (in cells) from 0."""

    y: int
    x: int


@dataclass(frozen=True)
class Flow:
    """The drawn lines, and the place of every token."""

    lines: list[Line]
    places: list[Place]

    def token_at(self, y: int, x: int) -> int:
        """The token that is drawn at or before a place; -1 when there are none."""
        return bisect_right(self.places, (y, x), key=lambda place: (place.y, place.x)) - 1


def look_of(name: str) -> str:
    """How a role is drawn; a token over a border looks like its last part."""
    return LOOKS.get(name.rpartition("+")[2], "two")


def drawn(text: str) -> str:
    """A token's text as it is drawn: blanks visible, nothing that a terminal obeys."""
    if "\N{REPLACEMENT CHARACTER}" in text:
        return PARTIAL
    shown = printable("".join(SHOWN.get(character, character) for character in text), limit=LONGEST) or "∅"
    return shown if cell_len(shown[0]) else CARRIER + shown


def flow(inspection: Inspection, tokens: Tokens, width: int, *, ids: bool = False) -> Flow:
    """The tokens of one sequence over `width` cells; a token ends its line where its text ends in a line feed. `ids`: numbers instead."""
    lines: list[list[Piece]] = [[]]
    places: list[Place] = []
    x = 0
    for index, id in enumerate(tokens.ids):
        text = inspection.texts[id]
        shown = f"{id} " if ids else drawn(text)
        look = look_of(inspection.names[tokens.roles[index]]) + ("+under" if tokens.labels[index] != IGNORED else "")
        cells = cell_len(shown)
        if x and x + cells > width:
            lines.append([])
            x = 0
        places.append(Place(len(lines) - 1, x))
        first, *rest = chop_cells(shown, width) if cells > width else (shown,)
        lines[-1].append((first, look))
        lines += [[(piece, look)] for piece in rest]  # a token that is longer than a line
        x = cell_len(rest[-1]) if rest else x + cells
        if text.endswith("\n") and not ids:
            lines.append([])
            x = 0
    if not lines[-1] and len(lines) > 1:
        lines.pop()
    return Flow([tuple(line) for line in lines], places)


def with_cursor(line: Line, x: int, count: int) -> Line:
    """The line with the look of its cells from x on marked, `count` of them."""
    marked: list[Piece] = []
    at = 0
    for text, look in line:
        cells = cell_len(text)
        before, rest = split_text(text, max(0, min(cells, x - at)))
        inside, after = split_text(rest, max(0, min(cells, x + count - at) - cell_len(before)))
        marked += [(part, look + mark) for part, mark in ((before, ""), (inside, "+cursor"), (after, "")) if part]
        at += cells
    return tuple(marked)


def row_line(inspection: Inspection, row: Row, width: int) -> Line:
    """A row in the list: number, tokens, how many are in the loss, what is wrong, and how it begins."""
    count = sum(len(tokens.ids) for tokens in row.sequences)
    trained = sum(tokens.trained for tokens in row.sequences)
    wrong = " ".join(faults(inspection, row))
    pieces: list[Piece] = [(f"{row.row:>7} {count:>6} {trained:>6} ", ""), (f"{wrong} " if wrong else "", "warn")]
    room = width - sum(cell_len(text) for text, _ in pieces)
    pieces.append((_beginning(inspection, row, max(0, room)), "dim"))
    return tuple(piece for piece in pieces if piece[0])


def _beginning(inspection: Inspection, row: Row, room: int) -> str:
    """The first words that come from the data, on one line."""
    content = {index for index, name in enumerate(inspection.names) if name.endswith("content")}
    text = ""
    for tokens in row.sequences[:1]:
        for id, source in zip(tokens.ids, tokens.sources):
            if len(text) > room:
                break
            text += inspection.texts[id] if source in content else ""
    shown = printable(_PIECES.sub(PARTIAL, " ".join(text.split()))[:room])
    return split_text(shown, min(room, cell_len(shown)))[0]


def describe(inspection: Inspection, tokens: Tokens, index: int) -> tuple[Line, Line]:
    """The token under the cursor in words: what it is, and where it comes from."""
    id = tokens.ids[index]
    role, source = inspection.names[tokens.roles[index]], inspection.names[tokens.sources[index]]
    trained = tokens.labels[index] != IGNORED
    what: list[Piece] = [
        (f"{index + 1}/{len(tokens.ids)} ", "dim"),
        (repr(printable(inspection.texts[id], limit=40)), "title"),
        (f" id {id}", ""),
        (" special" if id in inspection.special else "", "two"),
        (" in the loss" if trained else " not in the loss", "good" if trained else "dim"),
    ]
    place = "" if tokens.pack is None else f", position {tokens.positions[index]} of pack {tokens.pack}, document {tokens.documents[index]}"
    return tuple(piece for piece in what if piece[0]), ((printable(role, limit=ROLE), look_of(role)), (f" {source}{place}", "dim"))


def legend(inspection: Inspection, tokens: Sequence[Tokens]) -> Line:
    """Which look is whose, for the roles that occur, and what the underline means."""
    present = dict.fromkeys(inspection.names[role].rpartition("+")[2] for part in tokens for role in part.roles)
    pieces: Iterator[Piece] = ((f"{printable(name, limit=ROLE)}  ", look_of(name)) for name in present)
    return (*pieces, ("underlined", "+under"), (" in the loss", "dim"))
