"""Applies fixes: changes of the recipe with comments and order kept, new files beside it, repaired copies of data. Originals stay."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tuitune.errors import UserError
from tuitune.files import cache_dir, write_atomically
from tuitune.preflight.finding import Change, Fix
from tuitune.preflight.repair_data import copy_sources
from tuitune.recipe.document import Document, parse, read_document
from tuitune.recipe.edits import insertion, put
from tuitune.recipe.keys import remove_edit
from tuitune.recipe.problems import Edit, apply_edits, dotted
from tuitune.recipe.values import as_yaml
from tuitune.text import printable


@dataclass(frozen=True)
class Applied:
    """`done`: what was changed, a sentence each; `text`: the recipe as it is now; `files`: what was written beside it."""

    done: list[str]
    text: str
    files: list[Path]


def apply_fixes(recipe: Path, checked: str, fixes: Sequence[Fix]) -> Applied:
    """Apply fixes to a recipe file, whose text was `checked`, and write it; what it was is kept for `undo`.

    UserError when the text is another by now or a fix cannot be applied: then only files beside the recipe may have been written.
    """
    before = read_document(recipe).text
    if before != checked:
        raise UserError(f"{printable(str(recipe))} has changed since it was checked; check again before fixing")
    done: list[str] = []
    files: list[Path] = []
    text = apply_edits(before, dict.fromkeys(edit for fix in fixes for edit in fix.edits))
    copied = copy_sources(recipe, text, fixes)
    for fix in fixes:
        files += [_write_new(recipe.parent / new.path, new.text) for new in fix.files]
        text = change_recipe(text, fix.changes)
        done.append(fix.title)
    for copy in copied:
        text = change_recipe(text, copy.changes)
        files += [copy.file, copy.report]
    if text != before:
        write_atomically(_kept(recipe), before, mode=0o600)
        write_atomically(recipe, text, mode=recipe.stat().st_mode & 0o777)
    return Applied(done, text, files)


def undo(recipe: Path) -> str:
    """The recipe as it was before the last `apply_fixes`; also writes it. UserError when there is nothing to go back to."""
    text = before_last_fix(recipe)
    write_atomically(recipe, text, mode=recipe.stat().st_mode & 0o777)
    _kept(recipe).unlink()
    return text


def before_last_fix(recipe: Path) -> str:
    """What `undo` would write. UserError when there is nothing to go back to."""
    try:
        return _kept(recipe).read_bytes().decode()  # line ends as they were
    except FileNotFoundError:
        raise UserError(f"no fix was applied to {printable(str(recipe))} that could be taken back") from None


def change_recipe(text: str, changes: Iterable[Change]) -> str:
    """A recipe's text with changes made; every other character stays. UserError where the text is written so that it cannot be changed."""
    for change in changes:
        document = parse(text)
        edit = remove_edit(document, change.path) if change.remove else _edit(document, change)
        if edit is None:
            raise UserError(f"{dotted(change.path)} cannot be changed where it is written (an alias, or several lines); change it by hand")
        text = apply_edits(text, [edit])
    return text


def _edit(document: Document, change: Change) -> Edit | None:
    *parents, key = change.path
    if not isinstance(key, str):
        return None
    if len(parents) == 1 and (change.path not in document.entries):
        return insertion(document.text, document.entries, str(parents[0]), f"{key}: {as_yaml(change.value)}")
    if not document.editable(tuple(parents)):
        return None
    return put(document.text, document.entries, tuple(parents), key, as_yaml(change.value))


def _write_new(path: Path, text: str) -> Path:
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
        raise UserError(f"{printable(str(path))} is there already and says something else; move it away, then apply the fix again")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    return path


def _kept(recipe: Path) -> Path:
    folder = cache_dir() / "undo"
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder / f"{sha256(str(recipe.resolve()).encode()).hexdigest()[:24]}.yaml"
