"""What an answer is worth: compared with the gold answer whole, by what a pattern finds in both, or as a choice among several.

Pure functions of text and numbers; no metric runs code.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tuitune.errors import UserError
from tuitune.text import printable

NAMES = ("nll", "exact", "regex", "choice")
GENERATED = frozenset({"exact", "regex"})  # those that need an answer written by the model

_NUMBER = re.compile(r"[-+]?\$?[-+]?\d[\d,]*(\.\d+)?")


@dataclass(frozen=True)
class Wanted:
    """The metrics of an evaluation. `pattern`: of "regex", with at most one group."""

    names: tuple[str, ...]
    pattern: str | None = None

    @property
    def generated(self) -> bool:
        """Whether answers have to be written."""
        return bool(GENERATED & set(self.names))


def parse_metrics(text: str | None, answer_regex: str | None) -> Wanted | None:
    """`nll,exact,regex=PATTERN,choice` as a person types it (the pattern may hold commas); `answer_regex` is short for regex=PATTERN. None
    when neither is given: the data decide. UserError (usage) for what is no metric or no pattern."""
    before, found, pattern = (text or "").partition("regex=")
    names = [name.strip() for name in before.split(",") if name.strip()]
    if found:
        after: list[str] = []
        while pattern.rpartition(",")[2].strip() in ("nll", "exact", "choice"):
            pattern, _, last = pattern.rpartition(",")
            after.append(last.strip())
        names += ["regex", *reversed(after)]
    if unknown := [name for name in names if name not in NAMES or (name == "regex" and not found)]:
        raise UserError(f"{printable(repr(unknown[0]))} is no metric; there are nll, exact, regex=PATTERN and choice", exit_code=2)
    if answer_regex is not None:
        if found:
            raise UserError("--answer-regex and regex= both give a pattern; give one", exit_code=2)
        pattern, names = answer_regex, [*(names or ["nll"]), "regex"]
    if not names:
        return None
    if "regex" in names:
        compiled(pattern)
    return Wanted(tuple(dict.fromkeys(names)), pattern if "regex" in names else None)


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern; UserError (usage) when it is empty, none or has several groups."""
    if not pattern:
        raise UserError("regex needs its pattern: --metric 'regex=#### (.*)'", exit_code=2)
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise UserError(f"the pattern {printable(pattern)} is no regular expression ({error})", exit_code=2) from error
    if found.groups > 1:
        raise UserError(
            f"the pattern {printable(pattern)} has {found.groups} groups; mark the answer with one: others as (?:…)", exit_code=2
        )
    return found


def exact(answer: str, gold: str) -> bool:
    """Whether the whole answer is the gold answer, white space at both ends aside."""
    return answer.strip() == gold.strip()


def extracted(pattern: re.Pattern[str], text: str) -> str | None:
    """What the pattern's group (without one: the pattern) finds first, as lm-evaluation-harness reads GSM8K; numbers without thousands
    separators, dollar sign, closing point and trailing zeros, so that $1,200.00 is 1200. None when it finds nothing."""
    found = pattern.search(text)
    if found is None:
        return None
    value = (found.group(1 if pattern.groups else 0) or "").strip()
    number = value.removesuffix(".")
    if not _NUMBER.fullmatch(number):
        return value
    number = number.replace(",", "").replace("$", "").removeprefix("+")
    return number.rstrip("0").rstrip(".") if "." in number else number


def matches(pattern: re.Pattern[str], answer: str, gold: str) -> bool:
    """Whether the pattern finds the same in both; an answer in which it finds nothing is wrong."""
    found = extracted(pattern, answer)
    return found is not None and found == extracted(pattern, gold)


def chosen(losses: Sequence[float], lengths: Sequence[int] | None = None) -> int:
    """The choice with the smallest loss in nats; with `lengths` (bytes of each choice) the smallest loss a byte, which does not favour
    short ones. The first of equals."""
    scores = losses if lengths is None else [loss / max(1, length) for loss, length in zip(losses, lengths, strict=True)]
    return min(range(len(scores)), key=scores.__getitem__)


Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Meaning:
    """How a metric is named and read in a report."""

    title: str
    better: Better
    share: bool


MEANINGS = {
    "nll": Meaning("NLL, nats a token", "lower", False),
    "perplexity": Meaning("perplexity", "lower", False),
    "exact": Meaning("exact match", "higher", True),
    "regex": Meaning("same answer by the pattern", "higher", True),
    "choice": Meaning("right choice by NLL", "higher", True),
    "choice_bytes": Meaning("right choice by NLL a byte", "higher", True),
    "stopped": Meaning("answers the model ended", "higher", True),
}
