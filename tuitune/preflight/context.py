"""What checks look at: the recipe, the model's files, the card. Each thing is read when it is first asked for, and once.

The parts that need the torch stack (tokenizer, rows, weights) are added by tuitune.analyst.check_context. A property that cannot be had
raises UserError, which skips the checks that need it; NotHere when there is rightly nothing.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tuitune.preflight.cards import Card
from tuitune.preflight.finding import Fix, Found, NotHere, Where
from tuitune.preflight.model_files import AdapterFiles, ModelFiles, locate_model
from tuitune.recipe.aliases import canonical_name
from tuitune.recipe.document import Document
from tuitune.recipe.problems import KeyPath, Problem, dotted
from tuitune.recipe.recipe import Recipe
from tuitune.recipe.schema import Schema, load_schema


@dataclass
class DocumentContext:
    """For checks of Stage.RECIPE: a recipe that may not be valid. `problems` are those of tuitune.recipe.validate."""

    document: Document
    file: Path
    problems: list[Problem]

    def at(self, *path: str | int, view: Any = "recipe") -> Where:
        """The place of a key, or of what is nearest to it in the recipe."""
        return place(self.document, self.file, path, view)

    def told_by(self, problem: Problem) -> Found:
        """A problem of the recipe, as what a check found."""
        return told_by(problem, self.file)

    def told(self, codes: Collection[str], *paths: KeyPath) -> Iterator[Found]:
        """The recipe's problems with one of `codes` at one of `paths` or below."""
        for problem in self.problems:
            if problem.code in codes and any(problem.path[: len(path)] == path for path in paths):
                yield self.told_by(problem)

    def section(self, name: str) -> dict[str, Any]:
        """A section as written, training options under their newest names; {} when there is none or it is no mapping."""
        written = self.document.data.get(name)
        if not isinstance(written, dict):
            return {}
        return {canonical_name(str(key)): value for key, value in written.items()} if name == "training" else written


@dataclass
class Context:
    """For checks of Stage.HEADERS; and the common part of all later ones. `card` is the GPU that the run is meant for."""

    recipe: Recipe
    document: Document
    card: Card

    def at(self, *path: str | int, view: Any = "recipe") -> Where:
        """The place of a key, or of what is nearest to it in the recipe."""
        return place(self.document, self.recipe.file, path, view)

    @property
    def training(self) -> dict[str, Any]:
        """`training:` as written, under the newest names."""
        return {canonical_name(name): value for name, value in self.recipe.training.items()}

    def setting(self, name: str) -> Any:
        """A training option as the trainer gets it but for what depends on the box: written, else the installed config's default."""
        written = self.training.get(name, "auto")
        return default_of(self.recipe.task, name) if written == "auto" else written

    @property
    def full(self) -> bool:
        """Whether all weights are trained, and no adapter."""
        return self.recipe.peft is None and not self.recipe.model.get("adapter")

    @property
    def quantised(self) -> bool:
        """Whether the recipe loads the base in 4 or 8 bits."""
        return (
            any(self.recipe.quantization.get(key) is True for key in ("load_in_4bit", "load_in_8bit"))
            if self.recipe.quantization
            else False
        )

    @cached_property
    def model(self) -> ModelFiles:
        """The base model's files. NotHere when they are still to be fetched from the Hub."""
        folder = locate_model(self.recipe.model)
        if folder is None:
            raise NotHere(f"{self.recipe.model['name_or_path']} is not in the cache yet")
        return ModelFiles(folder)

    @cached_property
    def adapter(self) -> AdapterFiles:
        """The adapter that the run starts from. NotHere when it starts from none."""
        named = self.recipe.model.get("adapter")
        if not named:
            raise NotHere("the recipe starts from no adapter")
        folder = locate_model({"name_or_path": named})
        if folder is None:
            raise NotHere(f"{named} is not in the cache yet")
        return AdapterFiles(folder)


def default_of(task: str, name: str) -> Any:
    """The installed config's default of a training option; None for one that it does not have."""
    field = _schema().training_fields(task).get(name)
    return field.default if field else None


@cache
def _schema() -> Schema:
    return load_schema()


def told_by(problem: Problem, file: Path) -> Found:
    """A problem of the recipe as what a check found, with its place, its code and its fix."""
    where = Where(str(file), problem.line, problem.column, key=dotted(problem.path), view="recipe")
    fix = Fix(problem.fix.title, automatic=True, edits=problem.fix.edits) if problem.fix else None
    return Found(problem.message, where, {"code": problem.code}, fix, problem.severity)


def place(document: Document, file: Path, path: KeyPath, view: Any = "recipe") -> Where:
    """Where a key stands in a recipe; the nearest section when it is not written."""
    span = document.value_span(path)
    return Where(str(file), span.line, span.column, key=dotted(path), view=view)
