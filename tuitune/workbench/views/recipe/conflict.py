"""Somebody else wrote the file while it was being edited: the question that is asked before saving. Only from a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tuitune.errors import UserError
from tuitune.text import printable
from tuitune.workbench.parts.confirm import Choice, Confirm
from tuitune.workbench.views.recipe import disk
from tuitune.workbench.views.recipe.compare import Comparison

if TYPE_CHECKING:
    from textual.app import App

# Enter takes the first one, which loses nothing
CHOICES = [Choice("c", "Compare", "compare"), Choice("o", "Overwrite", "overwrite"), Choice("r", "Reload theirs", "reload")]


async def ask(app: App[Any], file: disk.RecipeFile, text: str, *, changed: bool = False) -> Literal["overwrite", "reload", "stay"]:
    """What to do with `text` now that the file on disk is another; "overwrite" without a question when it is the same.
    `changed`: it is another than the one that `text` was made from, though it is the one that was read."""
    while changed or disk.look(file) == "changed":
        title = f"{printable(file.path.name)} was changed on disk since you opened it."
        answer = await app.push_screen_wait(Confirm(title, ["Overwriting loses what is there now."], CHOICES))
        if answer == "overwrite":
            break
        if answer != "compare":
            return "reload" if answer == "reload" else "stay"
        try:
            theirs = disk.read(file.path).text
        except UserError as error:
            app.notify(str(error), severity="error")
        else:
            await app.push_screen_wait(Comparison("on disk", theirs, "on screen", text))
    return "overwrite"
