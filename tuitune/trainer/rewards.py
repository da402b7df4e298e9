"""Reward functions out of the Python file that a recipe names: the user's code, run because the recipe asks for it.

    def right(completions, answer, **kwargs):      # every column of the data, and what TRL adds (prompts, completion_ids, trainer_state)
        return [1.0 if … else 0.0 for …]           # a number for each completion; None: this function has no opinion

What goes wrong in it becomes one sentence with file and line. It is loaded as a module of its own; files beside it are not importable.
"""

import functools
import importlib.util
import inspect
import math
import numbers
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tuitune.errors import UserError
from tuitune.text import printable

Reward = Callable[..., Any]
MODULE = "tuitune_user_rewards"


def load_rewards(section: dict[str, Any]) -> list[Reward]:
    """The functions that section `rewards:` names, in its order. UserError when the file or one of them cannot be had."""
    path = Path(section["file"])
    module = _module(path)
    found = []
    for name in section["functions"]:
        function = getattr(module, name, None)
        if not callable(function):
            there = ", ".join(sorted(known for known, value in vars(module).items() if inspect.isfunction(value))) or "no function"
            raise UserError(f"rewards.functions: {printable(str(path))} has no function {printable(name)}; it has {printable(there)}")
        found.append(guarded(function, name, path))
    return found


def _module(path: Path) -> ModuleType:
    shown = printable(str(path))
    if not path.is_file():
        raise UserError(f"rewards.file: there is no file {shown}")
    specification = importlib.util.spec_from_file_location(MODULE, path)
    if specification is None or specification.loader is None:
        raise UserError(f"rewards.file: {shown} is no Python file (.py)")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{shown}:{error.lineno}: the reward file does not parse: {printable(str(error.msg))}") from error
    except Exception as error:
        raise UserError(f"{_place(path, error)}: the reward file fails while it is loaded: {_what(error)}") from error
    return module


def guarded(function: Reward, name: str, path: Path) -> Reward:
    """`function` with every failure and every result that is no list of numbers as a UserError; its name stays, TRL logs by it."""

    def checked(result: Any, completions: Sequence[Any]) -> list[float | None]:
        fault = _fault(result, len(completions))
        if fault:
            raise UserError(f"{printable(str(path))}: the reward function {printable(name)} {fault}")
        return list(result)

    def failed(error: Exception) -> UserError:
        return UserError(f"{_place(path, error)}: the reward function {printable(name)} fails: {_what(error)}")

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_later(*args: Any, completions: Sequence[Any], **kwargs: Any) -> list[float | None]:
            try:
                result = await function(*args, completions=completions, **kwargs)
            except Exception as error:
                raise failed(error) from error
            return checked(result, completions)

        return call_later

    @functools.wraps(function)
    def call(*args: Any, completions: Sequence[Any], **kwargs: Any) -> list[float | None]:
        try:
            result = function(*args, completions=completions, **kwargs)
        except Exception as error:
            raise failed(error) from error
        return checked(result, completions)

    return call


def _fault(result: Any, wanted: int) -> str:
    """What is wrong with a reward function's result, "" for nothing."""
    if not hasattr(result, "__len__") or not hasattr(result, "__iter__"):
        return f"returned {printable(type(result).__name__)}, where a list of {wanted} numbers is needed"
    if len(result) != wanted:
        return f"returned {len(result)} rewards for {wanted} completions"
    for value in result:
        if value is not None and (not isinstance(value, numbers.Real) or not math.isfinite(value)):
            return f"returned {printable(repr(value), limit=60)}, where a finite number (or None) is needed"
    return ""


def _place(path: Path, error: BaseException) -> str:
    """File and line of the innermost frame that is in the file."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return printable(str(path)) + (f":{line}" if line else "")


def _what(error: BaseException) -> str:
    return printable(f"{type(error).__name__}: {' '.join(str(error).split())}", limit=300)
