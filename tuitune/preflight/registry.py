"""The list of all checks, which is also their documentation (`tuitune check --list`, `--explain TOK01`)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from importlib import import_module
from inspect import cleandoc
from typing import Any

from tuitune.errors import UserError
from tuitune.preflight.finding import Found
from tuitune.recipe.problems import Severity

MODULES = (
    *("preparation", "tokenizer", "embeddings", "template", "data", "preference", "adapter", "quantisation"),
    *("settings", "rewards", "environment", "gpu_memory"),
)


class Stage(IntEnum):
    """What a check needs, in the order in which they run: what explains most crashes comes first, what is slow last."""

    RECIPE = 0  # the document alone, though it may not be valid
    HEADERS = 1  # config.json and the like, safetensors headers: milliseconds, no library of the torch stack
    TOKENIZER = 2  # the tokenizer and its template: seconds
    DATA = 3  # the rows as they are in their files
    ROWS = 4  # the rows as the trainer prepares them, all of them
    WEIGHTS = 5  # rows of the embedding out of the safetensors files
    MODEL = 6  # the architecture without weights
    BOX = 7  # GPU, driver, disk: this computer


CheckFunction = Callable[[Any], Iterator[Found]]


@dataclass(frozen=True)
class Check:
    """`severity` is that of a usual finding; `run` gets the context of each of its stages (context.py) and yields what it finds there."""

    id: str
    severity: Severity
    title: str
    stages: tuple[Stage, ...]
    run: CheckFunction

    @property
    def explanation(self) -> str:
        """Why it matters, the rule, what to do and where that is known from: the function's docstring."""
        return cleandoc(self.run.__doc__ or "")


_checks: dict[str, Check] = {}


def check(id: str, severity: Severity, title: str, *stages: Stage) -> Callable[[CheckFunction], CheckFunction]:
    """Register a function as a check. Mostly of one stage; of several where a fault shows itself early or late."""

    def register(function: CheckFunction) -> CheckFunction:
        if id in _checks:
            raise ValueError(f"two checks are called {id}")
        _checks[id] = Check(id, severity, title, stages, function)
        return function

    return register


def all_checks() -> list[Check]:
    """Every check, in the order of the modules and in each as written."""
    for name in MODULES:
        import_module(f"tuitune.preflight.{name}")
    return list(_checks.values())


def find_check(id: str) -> Check:
    """The check of this name. UserError when there is none."""
    found = next((known for known in all_checks() if known.id == id.upper()), None)
    if found is None:
        raise UserError(f"there is no check {id!r}; `tuitune check --list` names them all", exit_code=2)
    return found
