"""A Jinja template cut into pieces that make the same template when they are put together again, by Jinja's own lexer.

Whitespace control is settled here: a piece of text knows what of it is printed, whatever the tags beside it strip.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jinja2

Token = tuple[str, str]  # (Jinja's name for it, the text)

_CONCATENATIONS = ("+", "~")
_SPLITTING = {"if", "else", "and", "or", "not", "in", "is"}  # words that bind weaker than a sum, or change what its parts are
_ARITHMETIC = {"-", "*", "/", "//", "%", "**", "==", "!=", "<", ">", "<=", ">=", ",", ":", "="}


@dataclass(frozen=True)
class Piece:
    """Characters `start` to `end` of the source. kind: "text", "output" ({{ }}), "statement" ({% %}) or "rest" (comments, raw blocks).

    printed: of text, what Jinja prints of it. tokens: of a tag, what stands between `begin` ("{{-") and `close` ("-}}" and blanks that
    it strips)."""

    kind: str
    start: int
    end: int
    printed: str = ""
    tokens: tuple[Token, ...] = ()
    begin: str = ""
    close: str = ""

    @property
    def word(self) -> str:
        """The first word of a statement: "for", "endfor", "set" …"""
        return next((text for kind, text in self.tokens if kind == "name"), "") if self.kind == "statement" else ""

    @property
    def inner(self) -> str:
        """What stands between the delimiters."""
        return "".join(text for _, text in self.tokens)


@dataclass(frozen=True)
class Operand:
    """A part of an output's sum: `code` as written, `joint` the operator before it with its blanks ("" for the first), `literal` the text
    when it is a string literal."""

    code: str
    joint: str
    literal: str | None


def environment() -> jinja2.Environment:
    """Jinja set up as transformers sets it up for chat templates; for reading only, it renders nothing."""
    return jinja2.Environment(trim_blocks=True, lstrip_blocks=True)


def normalized(source: str) -> str:
    """The source as Jinja reads it: line feeds only, without the last one."""
    lines = re.split(r"\r\n|\r|\n", source)
    return "\n".join(lines[:-1] if len(lines) > 1 and not lines[-1] else lines)


def pieces(source: str) -> list[Piece]:
    """The template in pieces without gaps; `source` is normalized. Raises jinja2.TemplateSyntaxError."""
    found: list[Piece] = []
    at = start = 0
    begin: tuple[str, str] | None = None
    inside: list[Token] = []
    for _, kind, text in environment().lex(source):
        place = _find(source, text, at)
        if begin is None and kind != "data":
            if place > at:  # blanks that this tag strips: they belong to the text before it, or make a text of which nothing is printed
                if found and found[-1].kind == "text":
                    found[-1] = Piece("text", found[-1].start, place, found[-1].printed)
                else:
                    found.append(Piece("text", at, place))
            begin, start, inside = (kind, text), place, []
        elif begin is None:
            found.append(Piece("text", place, place + len(text), text))
        elif kind in _ENDS[begin[0]]:
            name = {"variable_begin": "output", "block_begin": "statement"}.get(begin[0], "rest")
            found.append(Piece(name, start, place + len(text), "", tuple(inside), begin[1], text))
            begin = None
        else:
            inside.append((kind, text))
        at = place + len(text)
    if at < len(source):
        found.append(Piece("text", at, len(source)))
    return found


_ENDS = {"variable_begin": {"variable_end"}, "block_begin": {"block_end"}, "comment_begin": {"comment_end"}, "raw_begin": {"raw_end"}}


def _find(source: str, text: str, at: int) -> int:
    """Where the lexer's next text begins: at `at`, or behind blanks that it has stripped."""
    while not source.startswith(text, at):
        if not source[at : at + 1].isspace():
            raise ValueError(f"the template cannot be followed at character {at}")
        at += 1
    return at


def operands(tokens: Sequence[Token]) -> list[Operand]:
    """The parts of the sum that an output prints, in their order; one part when it is no sum of texts."""
    tokens = _without_parentheses(tokens)
    names = {text for kind, text in _top_level(tokens) if kind == "name"}
    operators = {text for kind, text in _top_level(tokens) if kind == "operator"}
    whole = "".join(text for _, text in tokens)
    if names & _SPLITTING or operators & _ARITHMETIC or not operators & set(_CONCATENATIONS):
        return [Operand(whole.strip(), "", _literal(tokens))]
    parts: list[tuple[str, list[Token]]] = [("", [])]
    depth = 0
    for kind, text in tokens:
        depth += _step(kind, text)
        if kind == "operator" and text in _CONCATENATIONS and depth == 0:
            parts.append((text, []))
        else:
            parts[-1][1].append((kind, text))
    return [Operand("".join(text for _, text in part).strip(), f" {joint} " if joint else "", _literal(part)) for joint, part in parts]


def _top_level(tokens: Sequence[Token]) -> Iterator[Token]:
    depth = 0
    for kind, text in tokens:
        step = _step(kind, text)
        if depth == 0 and step == 0:
            yield kind, text
        depth += step


def _step(kind: str, text: str) -> int:
    return 0 if kind != "operator" else (text in "([{") - (text in ")]}")


def _without_parentheses(tokens: Sequence[Token]) -> Sequence[Token]:
    """(a + b) → a + b, when the parentheses hold all of it."""
    solid = [at for at, (kind, _) in enumerate(tokens) if kind != "whitespace"]
    if not solid or tokens[solid[0]][1] != "(" or tokens[solid[-1]][1] != ")":
        return tokens
    depth = 0
    for at in solid[:-1]:
        depth += _step(*tokens[at])
        if depth == 0:
            return tokens
    return _without_parentheses(tokens[solid[0] + 1 : solid[-1]])


def _literal(tokens: Sequence[Token]) -> str | None:
    solid = [token for token in tokens if token[0] != "whitespace"]
    if len(solid) != 1 or solid[0][0] != "string":
        return None
    return solid[0][1][1:-1].encode("ascii", "backslashreplace").decode("unicode-escape")  # as Jinja's lexer reads it


def quoted(text: str) -> str:
    """A string literal that Jinja reads as this text."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return f"'{escaped}'"
