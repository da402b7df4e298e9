"""Writes a marked template, and names it in the recipe. Slow: call it in a thread."""

from pathlib import Path

from tuitune.errors import UserError
from tuitune.recipe.document import parse
from tuitune.recipe.edits import insertion
from tuitune.recipe.problems import Edit, apply_edits
from tuitune.template.document import TemplateReport
from tuitune.template.report import marked_path, write_marked
from tuitune.text import printable
from tuitune.workbench.views.recipe import disk

KEY = ("tokenizer", "chat_template")


def with_template(text: str, name: str) -> str:
    """A recipe's text with tokenizer.chat_template set; UserError where its YAML cannot be extended by one line."""
    document = parse(text)
    quoted = name if name.replace(".", "").replace("-", "").replace("_", "").isalnum() else '"' + name.replace('"', '\\"') + '"'
    entry = document.entries.get(KEY)
    if entry is not None and document.editable(KEY):
        gap = " " if entry.style == "empty" else ""
        edit: Edit | None = Edit(*entry.value, gap + quoted)
    else:
        edit = None if entry is not None else insertion(text, document.entries, "tokenizer", f"chat_template: {quoted}")
    if edit is None or not document.readable:
        raise UserError(f"the recipe cannot be extended by itself; write into it: tokenizer: {{chat_template: {quoted}}}")
    return apply_edits(text, [edit])


def keep(report: TemplateReport, recipe: Path, *, set_it: bool) -> str:
    """Write the template beside the recipe, and into it when asked; what was done, in words. UserError when something refuses."""
    target = write_marked(report, marked_path(recipe))
    if not set_it:
        return f"{printable(target.name)} is written. To train with it: tokenizer: {{chat_template: {printable(target.name)}}}"
    file = disk.read(recipe)
    if file.read_only:
        raise UserError(f"{printable(target.name)} is written, but the recipe is {file.read_only}")
    disk.write(file, with_template(file.text, target.name))
    return f"{printable(target.name)} is written, and {printable(recipe.name)} trains with it from now on"
