"""Puts {% generation %} round what the assistant writes, in templates that do not say it themselves.

Nothing is guessed. The template is rendered with a mark round every piece that prints something, on the user's own rows; so it is known
which piece prints which characters. Pieces that print only answers are wrapped; those that print answers and other turns get a branch of
their own for the assistant; a text that is half answer is cut in two. Whoever calls proves the result: same render, right mask.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any

from tuitune.template.answers import Answer
from tuitune.template.jinja_source import Operand, Piece, normalized, operands, pieces, quoted

_FIRST = 0x100000  # Unicode's private plane 16, as spans.py uses plane 15
_LAST = 0x10FFFD
_MARK = re.compile(f"([{chr(_FIRST)}-{chr(_LAST)}])")
ROUNDS = 12  # a text is cut once a round
_CAPTURING = {"macro", "call", "filter", "set"}  # what is printed inside goes into a value first: its place in the render is unknown
_ROLE = re.compile(r"([A-Za-z_]\w*)(?:\[[^\[\]'\"]+\])?(?:\.role\b|\[\s*['\"]role['\"]\s*\])")
_NEIGHBOURS = re.compile(r"\{% endgeneration %\}((?=\{%)|\s*(?=\{%-))\{%(-?) generation %\}\{\{ ")  # two blocks that can be one

RenderWith = Callable[[str, Any], str]  # (template, conversation) → render


class Refused(Exception):
    """The template cannot be marked; the text says why and where."""


@dataclass(frozen=True)
class Sample:
    """A conversation (whatever RenderWith takes), its render, and what of it the assistant writes."""

    talk: Any
    text: str
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Atom:
    """Something that prints: an operand of an output, or a piece of text. `inside`: characters of all renders in an answer, `outside`: not
    in one; `cuts`: places in it where an answer begins or ends."""

    piece: int
    code: str
    joint: str
    literal: str | None
    loops: tuple[str, ...]
    inside: int = 0
    outside: int = 0
    cuts: frozenset[int] = frozenset()

    @property
    def says(self) -> bool:
        """Whether it can print more than blanks."""
        return self.literal is None or bool(self.literal.strip())


@dataclass
class _Draft:
    source: str
    pieces: list[Piece]
    atoms: list[Atom] = field(default_factory=list)

    def line(self, atom: Atom) -> int:
        return self.source.count("\n", 0, self.pieces[atom.piece].start) + 1


def candidates(source: str, samples: Sequence[Sample], render: RenderWith) -> Iterator[tuple[str, list[int]]]:
    """(marked template, lines that no sample prints anything of), one for every way to ask for the role. Raises Refused."""
    source = normalized(source)
    draft = _measured(source, samples, render)
    for other in _hoisted(draft):
        try:
            hoisted = _measured(other, samples, render)
        except Refused:
            continue
        if not any(atom.cuts for atom in hoisted.atoms):
            draft = hoisted
            break
    stuck = next((atom for atom in draft.atoms if atom.cuts), None)
    if stuck is not None:
        raise Refused(
            f"line {draft.line(stuck)} prints the answer and something else as one value ({stuck.code[:60]}): "
            "print them one after the other"
        )
    unreached = sorted({draft.line(atom) for atom in draft.atoms if atom.loops and not atom.inside and not atom.outside and atom.says})
    if not any(atom.inside for atom in draft.atoms):
        raise Refused("no piece of the template prints an answer of these rows")
    for condition in _conditions(draft):
        yield _written(draft, condition), unreached


def _measured(source: str, samples: Sequence[Sample], render: RenderWith) -> _Draft:
    """The template's atoms, counted and with its half texts cut. Raises Refused when the marks change what is printed."""
    draft = _Draft(source, pieces(source))
    if any(piece.word == "generation" for piece in draft.pieces):
        raise Refused("the template has {% generation %} already")
    draft.atoms = list(_atoms(draft.pieces))
    for _ in range(ROUNDS):
        if 2 * len(draft.atoms) > _LAST - _FIRST:
            raise Refused("the template has too many pieces")
        _count(draft, samples, render)
        cut = list(_cut(draft.atoms))
        if len(cut) == len(draft.atoms):
            break
        draft.atoms = cut
    return draft


def _atoms(parts: Sequence[Piece]) -> Iterator[Atom]:
    loops: list[str] = []
    captured = 0
    for index, piece in enumerate(parts):
        if piece.kind == "statement":
            word, inner = piece.word, piece.inner.strip()
            if word in _CAPTURING and not (word == "set" and "=" in inner):
                captured += 1
            elif word.startswith("end") and word[3:] in _CAPTURING:
                captured -= 1
            elif word == "for":
                loops.append(inner[len("for") :].partition(" in ")[0].strip())
            elif word == "endfor" and loops:
                loops.pop()
        elif captured:
            continue
        elif piece.kind == "text" and piece.printed:
            yield Atom(index, quoted(piece.printed), "", piece.printed, tuple(loops))
        elif piece.kind == "output":
            for operand in operands(piece.tokens):
                yield Atom(index, operand.code, operand.joint, operand.literal, tuple(loops))


def _count(draft: _Draft, samples: Sequence[Sample], render: RenderWith) -> None:
    """Render everything with marks and note for each atom what it prints."""
    marked = _assembled(draft, lambda atoms: "".join(f"{{{{ {quoted(o)} }}}}{{{{ {a.code} }}}}{{{{ {quoted(c)} }}}}" for a, o, c in atoms))
    inside, outside = [0] * len(draft.atoms), [0] * len(draft.atoms)
    cuts: list[set[int]] = [set() for _ in draft.atoms]
    for sample in samples:
        for number, start, end in _places(render(marked, sample.talk), sample.text):
            covered = 0
            for answer in sample.answers:
                low, high = max(start, answer.start), min(end, answer.end)
                if low < high:
                    covered += high - low
                    cuts[number] |= {place - start for place in (low, high)} - {0, end - start}
            inside[number] += covered
            outside[number] += end - start - covered
    draft.atoms = [
        replace(atom, inside=inside[number], outside=outside[number], cuts=frozenset(cuts[number]))
        for number, atom in enumerate(draft.atoms)
    ]


def _places(marked: str, plain: str) -> Iterator[tuple[int, int, int]]:
    """(atom, start, end) of everything that is printed, in the plain render."""
    parts = _MARK.split(marked)  # text, mark, text, mark … text
    if "".join(parts[::2]) != plain:
        raise Refused("the template prints other things when its pieces are numbered: it looks at what it has printed")
    at = 0
    opened: list[int] = []
    for text, mark in zip(parts[::2], parts[1::2]):
        at += len(text)
        code = ord(mark) - _FIRST
        if code % 2 == 0:
            opened.append(at)
        else:
            yield code // 2, opened.pop() if opened else at, at


def _cut(atoms: Sequence[Atom]) -> Iterator[Atom]:
    """Texts in which an answer begins or ends, in parts."""
    for atom in atoms:
        if atom.literal is None or not atom.cuts:
            yield atom
            continue
        borders = [0, *sorted(atom.cuts), len(atom.literal)]
        for number, (start, end) in enumerate(pairwise(borders)):
            text = atom.literal[start:end]
            yield replace(atom, code=quoted(text), literal=text, joint=atom.joint if number == 0 else " + ", cuts=frozenset())


def _hoisted(draft: _Draft) -> Iterator[str]:
    """Templates that put header and answer into a name first: the sum's end is printed where the name is, instead of being in it."""
    for atom in draft.atoms:
        if not atom.cuts or not re.fullmatch(r"[A-Za-z_]\w*", atom.code):
            continue
        output = draft.pieces[atom.piece]
        for piece in draft.pieces[: atom.piece]:
            assigned = re.match(rf"\s*set\s+{atom.code}\s*=", piece.inner) if piece.word == "set" else None
            if assigned is None:
                continue
            parts = operands(_behind_equals(piece))
            for count in range(1, len(parts)):
                kept, moved = _joined(parts[:count]), _joined(parts[count:])
                close = "-}}" if output.close.startswith("-") else "}}"
                yield (
                    f"{draft.source[: piece.start]}{piece.begin} set {atom.code} = {kept} {piece.close}"
                    f"{draft.source[piece.end : output.start]}{output.begin} {atom.code} + {moved} {close}"
                    f"{draft.source[output.end - len(output.close) + len(close) : output.end]}{draft.source[output.end :]}"
                )


def _behind_equals(piece: Piece) -> tuple[tuple[str, str], ...]:
    at = next(at for at, token in enumerate(piece.tokens) if token == ("operator", "="))
    return piece.tokens[at + 1 :]


def _joined(parts: Sequence[Operand | Atom]) -> str:
    return parts[0].code + "".join(part.joint + part.code for part in parts[1:])


def _conditions(draft: _Draft) -> list[str]:
    """Ways to ask whether a turn is the assistant's, as the template itself writes it, the name of an enclosing loop first."""
    mixed = [atom for atom in draft.atoms if atom.inside and atom.outside]
    if not mixed:
        return [""]
    loops = {name.strip() for atom in mixed for loop in atom.loops for name in loop.split(",")}
    written = {match.group(): match.group(1) for match in _ROLE.finditer(draft.source)}
    order = sorted(written, key=lambda text: written[text] not in loops)
    return [f"{text} == 'assistant'" for text in dict.fromkeys([*order, *(f"{name}['role']" for name in sorted(loops))])][:6]


def _written(draft: _Draft, condition: str) -> str:
    """The template with the markers in it."""

    def way(atom: Atom) -> str:
        return "" if not atom.inside else "branch" if atom.outside else "wrap"

    def write(atoms: Sequence[tuple[Atom, str, str]]) -> str:
        written = ""
        for kind, group in groupby((atom for atom, _, _ in atoms), way):
            printed = f"{{{{ {_joined(list(group))} }}}}"
            wrapped = f"{{% generation %}}{printed}{{% endgeneration %}}"
            written += (
                printed if not kind else wrapped if kind == "wrap" else f"{{% if {condition} %}}{wrapped}{{% else %}}{printed}{{% endif %}}"
            )
        return written

    written = _assembled(draft, write, lambda atoms: any(atom.inside for atom in atoms))
    return _NEIGHBOURS.sub(lambda found: f"{found.group(1)}{{{{{found.group(2)} ", written)


def _assembled(
    draft: _Draft, write: Callable[[Sequence[tuple[Atom, str, str]]], str], wanted: Callable[[Sequence[Atom]], bool] = bool
) -> str:
    """The source with the pieces that hold `wanted` atoms written anew; `write` gets them with a pair of marks for each."""
    numbered = [(atom, chr(_FIRST + 2 * at), chr(_FIRST + 2 * at + 1)) for at, atom in enumerate(draft.atoms)]
    groups = {piece: list(group) for piece, group in groupby(numbered, lambda item: item[0].piece)}
    written = ""
    for index, piece in enumerate(draft.pieces):
        group = groups.get(index)
        if group is None or not wanted([atom for atom, _, _ in group]):
            written += draft.source[piece.start : piece.end]
        else:
            following = draft.pieces[index + 1 : index + 2]
            written += _in_place(piece, write(group), written, following[0].printed if following else "")
    return written


def _in_place(piece: Piece, code: str, before: str, after: str) -> str:
    """`code` (tags only) for a piece, so that the blanks beside it are stripped exactly as they were."""
    opens_block, closes_block = code.startswith("{%"), code.endswith("%}")
    if piece.begin.endswith("-"):
        code = f"{code[:2]}-{code[2:]}"
    elif piece.kind == "output" and opens_block and before[-1:].isspace():
        code = "{{ '' }}" + code  # Jinja strips the blanks before a block that begins its line, not those before an output
    if piece.close.startswith("-"):
        return f"{code[:-2]}-{code[-2:]}{piece.close[3:]}"
    if piece.kind == "output" and closes_block and after.startswith("\n"):
        return f"{code[:-2]}+{code[-2:]}"  # nor does it take the line feed behind an output
    return code
