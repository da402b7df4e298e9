"""Which recipes name a data file, and how a column mapping is written into one. Imports nothing of Textual."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tuitune.errors import UserError
from tuitune.recipe.document import parse, read_document
from tuitune.recipe.edits import put, removal
from tuitune.recipe.problems import KeyPath, apply_edits, dotted
from tuitune.recipe.recipe import resolve_path
from tuitune.recipe.values import as_yaml
from tuitune.text import printable


@dataclass(frozen=True)
class Naming:
    """A source of a recipe that names the file: ("dataset", "train", 0), with the columns written there and the recipe's task."""

    recipe: Path
    place: KeyPath
    columns: dict[str, str] | None
    task: str = "sft"

    @property
    def words(self) -> str:
        """As people say it: "demo.yaml, dataset.train[0]"."""
        return f"{printable(self.recipe.name)}, {dotted(self.place)}"


def namings(path: Path, recipes: Iterable[Path]) -> list[Naming]:
    """The sources that name `path`, in the order of the recipes; a recipe that cannot be read names nothing."""
    found = []
    for recipe in recipes:
        try:
            document = read_document(recipe).data
        except UserError:
            continue
        data = document.get("dataset")
        for split in ("train", "eval"):
            sources = data.get(split) if isinstance(data, dict) else None
            for index, source in enumerate(sources if isinstance(sources, list) else ()):
                if isinstance(source, dict) and _same(source.get("path"), recipe.parent, path):
                    columns = source.get("columns")
                    named = {str(key): str(value) for key, value in columns.items()} if isinstance(columns, dict) and columns else None
                    found.append(Naming(recipe, ("dataset", split, index), named, str(document.get("task", "sft"))))
    return found


def files_beside(path: Path, recipes: Iterable[Path]) -> list[Path]:
    """The other data files of the recipes that name `path`: what its rows must not overlap with."""
    found: dict[Path, None] = {}
    for recipe in dict.fromkeys(naming.recipe for naming in namings(path, recipes)):
        data = read_document(recipe).data["dataset"]
        for split in ("train", "eval"):
            for source in data.get(split) or ():
                other = resolve_path(str(source.get("path")), recipe.parent) if isinstance(source, dict) else path
                if other != path and other.is_file():
                    found[other] = None
    return list(found)


def _same(written: object, base: Path, path: Path) -> bool:
    if not isinstance(written, str):
        return False
    named = resolve_path(written, base)
    return named == path or named.resolve() == path.resolve()


def with_columns(text: str, place: KeyPath, columns: Mapping[str, str]) -> str:
    """The recipe's text with `columns` of the source at `place` set; everything else stays. UserError where that cannot be done."""
    value = "{" + ", ".join(f"{target}: {as_yaml(source)}" for target, source in columns.items()) + "}"
    document = parse(text)
    written = document.entries.get((*place, "columns"))
    changed = text
    if document.readable and document.editable(place):
        if written is not None and written.style == "mapping":
            changed = _line_by_line(text, (*place, "columns"), columns)
        elif (edit := put(text, document.entries, place, "columns", value)) is not None:
            changed = apply_edits(text, [edit])
    if _value_at(changed, (*place, "columns")) != dict(columns):
        raise UserError(f"{dotted(place)} is written in a way that cannot be edited here; write `columns: {value}` into it yourself")
    return changed


def _line_by_line(text: str, path: KeyPath, columns: Mapping[str, str]) -> str:
    """Columns written one a line: each keeps its line and the comment on it. What cannot be edited stays, and the caller sees it."""
    for target, source in columns.items():
        edit = put(text, parse(text).entries, path, target, as_yaml(source))
        text = apply_edits(text, [edit]) if edit else text
    for other in [other for other in parse(text).entries if other[:-1] == path and other[-1] not in columns]:
        edit = removal(text, parse(text).entries[other], flow=False)
        text = apply_edits(text, [edit]) if edit else text
    return text


def _value_at(text: str, path: KeyPath) -> object:
    found: object = parse(text).data
    for part in path:
        try:
            found = found[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return found
