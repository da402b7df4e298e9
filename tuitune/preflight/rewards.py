"""The check of section `rewards:`. It reads the file and runs nothing of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tuitune.preflight.context import Context
from tuitune.preflight.finding import Found, NotHere
from tuitune.preflight.registry import Stage, check
from tuitune.recipe.values import nearest
from tuitune.text import printable


@check("REW01", "error", "reward functions that cannot be had", Stage.HEADERS)
def reward_file(context: Context) -> Iterator[Found]:
    """The answers of GRPO, RLOO and online DPO are judged by functions of a Python file, which the trainer loads when the model is in
    memory already.

    Rule: the file is there, parses, and defines (or imports) every function that is named. Nothing of it is run here.
    Do: correct rewards.file or rewards.functions.
    Known from: tuitune.trainer.rewards.
    """
    section = context.recipe.rewards
    if section is None:
        raise NotHere("the recipe has no section rewards")
    path, shown = Path(section["file"]), printable(str(section["file"]))
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (OSError, SyntaxError, ValueError) as error:
        reason = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else getattr(error, "strerror", None) or str(error)
        yield Found(
            f"{shown} cannot be read as Python ({printable(str(reason))}); correct rewards.file, or the file",
            context.at("rewards", "file"),
            {"file": str(path)},
        )
        return
    known = set(_names(tree))
    for name in section["functions"]:
        if name not in known:
            near = nearest(name, sorted(known))
            hint = f": is {printable(near)} meant?" if near else f"; it defines {printable(', '.join(sorted(known)) or 'none')}"
            yield Found(
                f"{shown} defines no function {printable(name)}{hint}",
                context.at("rewards", "functions"),
                {"file": str(path), "function": name, "known": sorted(known)},
            )


def _names(tree: ast.Module) -> Iterator[str]:
    """What the file has at its top: functions, imported and assigned names."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
