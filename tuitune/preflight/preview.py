"""What a fix would do, before anything is written: the recipe's text as it would be, and the files that would appear."""

from dataclasses import dataclass
from pathlib import Path

from tuitune.preflight.finding import DataCopy, Fix
from tuitune.preflight.repair import change_recipe
from tuitune.recipe.document import parse
from tuitune.recipe.problems import apply_edits
from tuitune.text import printable


@dataclass(frozen=True)
class Preview:
    """`text`: the recipe with the fix, but for the names of copies; `files`: a few words on each file that is written."""

    text: str
    files: tuple[str, ...]


def preview(checked: str, fix: Fix) -> Preview:
    """Of one fix on the text of the recipe that was checked. UserError when it cannot be applied."""
    text = change_recipe(apply_edits(checked, fix.edits), fix.changes)
    files = [f"writes {printable(new.path)}, {new.text.count(chr(10)) + 1} lines" for new in fix.files]
    return Preview(text, (*files, *(_copy_words(copy, checked) for copy in fix.copies)))


def _copy_words(copy: DataCopy, text: str) -> str:
    sources = parse(text).data.get("dataset", {}).get(copy.split, [])
    path = sources[copy.source].get("path", "") if copy.source < len(sources) and isinstance(sources[copy.source], dict) else ""
    name = printable(Path(str(path)).name) or f"dataset.{copy.split}[{copy.source}]"
    without = f" without {len(copy.drop):,} row{'s' * (len(copy.drop) != 1)}" if copy.drop else ""
    steps = f" ({', '.join(copy.steps)})" if copy.steps else ""
    return f"writes a repaired copy of {name}{without}{steps} beside it; the recipe names the copy"
