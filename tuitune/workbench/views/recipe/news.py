"""What the recipe editor's threads tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from tuitune.recipe.problems import Problem
    from tuitune.recipe.schema import Schema
    from tuitune.workbench.views.recipe.disk import RecipeFile


class Validated(Message, namespace="recipe_editor"):
    """The thread has judged the text of version `version`."""

    def __init__(self, version: int, problems: list[Problem]) -> None:
        super().__init__()
        self.version = version
        self.problems = problems


class SchemaReady(Message, namespace="recipe_editor"):
    """The options of the installed libraries are known, or why they are not."""

    def __init__(self, schema: Schema | None, error: str = "") -> None:
        super().__init__()
        self.schema = schema
        self.error = error


class DiskNews(Message, namespace="recipe_editor"):
    """The file on disk is not `file` any more."""

    def __init__(self, file: RecipeFile) -> None:
        super().__init__()
        self.file = file
