"""A chat template taken apart into what stands before and after each turn, for servers that have a template language of their own.

Jinja is a programming language, so that this cannot always be done: `take_apart` renders a few conversations, reads the pieces off, and
gives them back only when they make every one of these conversations again, letter for letter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jinja2 import TemplateError

REFUSALS = (TemplateError, ValueError, TypeError, LookupError)  # of a template for a conversation; a piece that is not there once
Turns = list[dict[str, str]]
Render = Callable[[Turns, bool], str]
S, U, A, V = "⟪system⟫", "⟪first⟫", "⟪answer⟫", "⟪second⟫"


@dataclass(frozen=True)
class Pieces:
    """`opening`: what comes first without a system turn (its own default of one, perhaps); `system`: before and after a system turn,
    which comes first, or None when the template has none; `user`, `assistant`: before and after theirs; `ask`: what makes the model
    answer."""

    opening: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    ask: str

    def render(self, turns: Turns, ask: bool) -> str:
        """What the template makes of a conversation, by the pieces."""
        text = "" if turns[0]["role"] == "system" else self.opening
        for turn in turns:
            before, after = self.system or ("", "") if turn["role"] == "system" else getattr(self, turn["role"])
            text += before + turn["content"] + after
        return text + (self.ask if ask else "")


def take_apart(render: Render) -> Pieces | None:
    """The pieces of the template that `render(turns, ask)` renders; None when it is more than pieces."""
    try:
        pieces = _read_off(render)
        return pieces if pieces is not None and all(_same(render, pieces, turns) for turns in _talks(pieces.system is not None)) else None
    except REFUSALS:
        return None  # a template that refuses one of these conversations is more than pieces


def _read_off(render: Render) -> Pieces | None:
    one, talk = [_turn("user", U)], [_turn("user", U), _turn("assistant", A), _turn("user", V)]
    ask = render(one, True).removeprefix(render(one, False))
    head, tail = _split(render(one, False), U)
    _, rest = _split(render(talk, False), U)
    between, rest = _split(rest, A)
    again, _ = _split(rest, V)
    _, after_answer = _split(render(talk[:2], False), A)
    before_user = again.removeprefix(after_answer)
    if not (ask and between.startswith(tail) and again.startswith(after_answer) and head.endswith(before_user)):
        return None
    assistant = (between.removeprefix(tail), after_answer)
    return Pieces(head.removesuffix(before_user), _system(render, before_user), (before_user, tail), assistant, ask)


def _system(render: Render, before_user: str) -> tuple[str, str] | None:
    """Before and after a system turn; None when the template refuses one or puts it elsewhere."""
    try:
        before, rest = _split(render([_turn("system", S), _turn("user", U)], False), S)
        between, _ = _split(rest, U)
    except REFUSALS:
        return None
    return (before, between.removesuffix(before_user)) if between.endswith(before_user) else None


def _talks(system: bool) -> Sequence[Turns]:
    plain = [
        [_turn("user", "Why?")],
        [_turn("user", "a b"), _turn("assistant", "c"), _turn("user", "d")],
        [_turn("user", "1"), _turn("assistant", "2"), _turn("user", "3"), _turn("assistant", "4"), _turn("user", "5")],
    ]
    return [*plain, *([[_turn("system", "Be kind."), *turns] for turns in plain] if system else [])]


def _same(render: Render, pieces: Pieces, turns: Turns) -> bool:
    return all(render(turns, ask) == pieces.render(turns, ask) for ask in (False, True))


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _split(text: str, at: str) -> tuple[str, str]:
    """What stands before and after; ValueError when it is not there exactly once."""
    before, after = text.split(at)
    return before, after
