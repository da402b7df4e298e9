"""Where a template or a row of it stands, and the fixes that the template's checks share."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuitune.dataset.sources import data_format
from tuitune.errors import UserError
from tuitune.preflight.context import Context
from tuitune.preflight.finding import Change, DataCopy, Fix, NewFile, NotHere, Where

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext
    from tuitune.analyst.rendered_rows import Shape

PLAIN = (
    "{%- for message in messages %}\n"
    "{{- '### ' + message['role'] + ':\\n' }}\n"
    "{%- if message['role'] == 'assistant' %}\n"
    "{%- generation %}{{- message['content'] + eos_token }}{%- endgeneration %}\n"
    "{{- '\\n' }}\n"
    "{%- else %}\n"
    "{{- message['content'] + '\\n\\n' }}\n"
    "{%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '### assistant:\\n' }}{%- endif %}\n"
)


def of_template(context: Context) -> Where:
    """The file that the template in force comes from; the recipe's model when its folder is not here."""
    named = context.recipe.tokenizer.get("chat_template")
    if named:
        return Where(str(named), view="template")
    try:
        folder = context.model.folder
    except (NotHere, UserError):
        return context.at("model", "name_or_path", view="template")
    return Where(
        str(next((file for file in (folder / "chat_template.jinja",) if file.exists()), folder / "tokenizer_config.json")), view="template"
    )


def of_row(context: "CheckContext", row: int, split: str = "train") -> Where:
    """A row in the view of the template."""
    return replace(context.row(row, split), view="template")


def new_template(context: Context, title: str, text: str, kind: str) -> Fix:
    """The proposal to train with this template: a file beside the recipe, named in it."""
    name = f"{context.recipe.file.stem}.{kind}.jinja"
    return Fix(title, files=(NewFile(name, text),), changes=(Change(("tokenizer", "chat_template"), f"./{name}"),))


def copied(context: Context, title: str, shapes: Iterable["Shape"], step: str, *, automatic: bool = False, **options: Any) -> Fix | None:
    """The fix that takes a step with every source that has rows of these shapes; None where one of them is no file on this box."""
    files: dict[str, set[str]] = {}
    for shape in shapes:
        files.setdefault(shape.split, set()).update(shape.files)
    return copy_of_files(context, title, files, step, automatic=automatic, **options)


def copy_of_files(
    context: Context, title: str, files: dict[str, set[str]], step: str, *, automatic: bool = False, **options: Any
) -> Fix | None:
    """As `copied`, for the files of each split."""
    if not all(data_format(Path(file)) for names in files.values() for file in names):
        return None
    copies = [
        DataCopy(split, number, steps=(step,), options=options)
        for split, names in files.items()
        for number, source in enumerate(context.recipe.dataset[split])
        if str(source["path"]) in names
    ]
    return Fix(title, automatic, copies=tuple(copies)) if copies else None


def counted(shapes: Collection["Shape"]) -> int:
    """Conversations of these shapes."""
    return sum(shape.count for shape in shapes)


def rows_of(shapes: Iterable["Shape"], most: int = 10) -> list[int]:
    """The first rows of these shapes."""
    return sorted({row for shape in shapes for row in shape.rows})[:most]
