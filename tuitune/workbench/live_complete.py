"""What can be typed next in the command bar, from what the run takes, and what is wrong with what is there. Pure functions."""

import shlex
from dataclasses import dataclass
from typing import Any

from tuitune.bus.words import arguments
from tuitune.errors import UserError
from tuitune.workbench.live_check import ARGUMENTS, KINDS, MODES, check, refusal
from tuitune.workbench.live_state import value_words
from tuitune.workbench.run_state import RunState


@dataclass(frozen=True)
class Candidate:
    """A word that fits at the end of the line; `detail` says something about it."""

    word: str
    detail: str = ""


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """(op, arguments) of a line like `set learning_rate=1e-4 kind=hold`. UserError for a word that is not KEY=VALUE."""
    try:
        words = shlex.split(text)
    except ValueError:
        raise UserError("a quotation mark is not closed") from None
    if not words:
        raise UserError("type a command, e.g. save")
    return words[0], arguments(words[0], words[1:])


def wrong(text: str, state: RunState) -> str:
    """The sentence about what keeps the line from being sent; "" when it can be."""
    try:
        op, args = parse(text)
    except UserError as error:
        return str(error)
    return check(op, args, state)


def candidates(text: str, state: RunState) -> list[Candidate]:
    """The words that fit where the line ends: ops, then keys, then values; those that begin as the last word does."""
    words = text.split(" ")
    last, before = words[-1], [word for word in words[:-1] if word]
    if not before:
        found = [Candidate(op) for op in sorted(state.offers) if not refusal(op, state)]
    else:
        key, equals, _ = last.partition("=")
        found = _values(before[0], key, state) if equals else _keys(before[0], before[1:], state)
    return [candidate for candidate in found if candidate.word.startswith(last)]


def complete(text: str, state: RunState) -> str:
    """The line with its last word completed as far as all candidates agree; a whole op or value gets a blank after it."""
    found = candidates(text, state)
    if not found:
        return text
    head = text[: len(text) - len(text.split(" ")[-1])]
    common = found[0].word
    for candidate in found[1:]:
        while not candidate.word.startswith(common):
            common = common[:-1]
    done = len(found) == 1 and not common.endswith("=")
    return head + common + (" " if done else "")


def _keys(op: str, given: list[str], state: RunState) -> list[Candidate]:
    cap, taken = state.offers.get(op), {word.partition("=")[0] for word in given}
    if cap is None:
        return []
    if op == "set" and not taken & {*cap.settings, "key"}:
        return [Candidate(f"{name}=", _now(name, state)) for name in cap.settings]
    names = [name for name in ARGUMENTS.get(op, ()) if name not in {*taken, "key", "value"}]
    if op == "set" and "learning_rate" not in taken:
        names = []
    return [Candidate(f"{name}=", _now(name, state) if op == "reshape" else "") for name in names]


def _values(op: str, key: str, state: RunState) -> list[Candidate]:
    cap = state.offers.get(op)
    if cap is None:
        return []
    if op == "set" and key in cap.settings:
        choices: tuple[str, ...] = cap.settings[key].choices
    else:
        fixed = {("set", "kind"): KINDS, ("pause", "mode"): cap.modes or MODES, ("stop", "save"): ("true", "false")}
        choices = fixed.get((op, key), ())
    return [Candidate(f"{key}={choice}") for choice in choices]


def _now(name: str, state: RunState) -> str:
    value = state.setting(name)
    return "" if value is None else f"now {value_words(value)}"
