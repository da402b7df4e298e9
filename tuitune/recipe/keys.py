"""Judging one key: unknown, renamed, removed, or at home in another section; with the edit that puts it right."""

from collections.abc import Mapping
from dataclasses import dataclass

from tuitune.recipe import aliases
from tuitune.recipe.document import Document
from tuitune.recipe.edits import insertion, removal
from tuitune.recipe.problems import Edit, Fix, KeyPath, Problem, Severity, dotted
from tuitune.recipe.schema import Schema
from tuitune.recipe.sections import FieldSpec
from tuitune.recipe.values import as_yaml, fits, nearest, out_of_choices, out_of_range
from tuitune.text import printable

SECTIONS = ("model", "quantization", "peft", "tokenizer", "dataset", "training", "rewards", "watch", "launch", "output")


@dataclass(frozen=True)
class KeyFinding:
    """A wrong key, and the name in the same mapping that it will have once it is put right (None when it goes elsewhere)."""

    problem: Problem
    becomes: str | None = None


def judge_key(document: Document, schema: Schema, path: KeyPath, known_as: KeyPath, task: str) -> KeyFinding | None:
    """What is wrong with the key at the end of `path`; None when it may stand there.

    `known_as` is the path that the schema is asked for: it differs from `path` below a key that is itself misspelt.
    """
    name = str(path[-1])
    section = str(known_as[0]) if len(path) > 1 else ""
    if len(path) == 2 and section == "training" and name in aliases.HOMES:
        return KeyFinding(_at_home_elsewhere(document, schema, path))
    fields = schema.fields(known_as[:-1], task)
    if fields is None or schema.field(known_as, task) is not None:
        return None
    renamed = aliases.RENAMED.get(section, {}).get(name) if len(path) <= 2 else None
    if renamed is not None and (renamed.new is None or renamed.new in fields):
        return _renamed(document, path, renamed)
    moved = _moved(document, schema, path, section, task)
    return KeyFinding(moved) if moved else _unknown(document, schema, path, known_as, task, fields)


def problem_at_key(document: Document, code: str, message: str, path: KeyPath, fix: Fix | None, severity: Severity = "error") -> Problem:
    span = document.key_span(path)
    return Problem(code, severity, message, span.line, span.column, span.end_line, span.end_column, path, fix)


def remove(document: Document, path: KeyPath, title: str) -> Fix | None:
    """The fix that takes out the entry at `path`; with its section when it is the only thing there."""
    edit = remove_edit(document, path)
    return Fix(title, (edit,)) if edit else None


def remove_edit(document: Document, path: KeyPath) -> Edit | None:
    """As `remove`. None as well where the text is broken: what the entry's end or its neighbours are is not known then."""
    if not document.readable or not document.editable(path):
        return None
    siblings = [other for other in document.entries if len(other) == len(path) and other[:-1] == path[:-1]]
    if len(path) == 2 and len(siblings) == 1:
        path = path[:1]
        entry = document.entries[path]
        if entry.key is None or "#" in document.text[entry.key[0] : entry.value[1]]:
            return None  # a comment would go too
    parent = document.entries.get(path[:-1])
    return removal(document.text, document.entries[path], flow=parent is not None and parent.style == "flow mapping")


def rename(document: Document, path: KeyPath, new: str, value: str | None = None) -> Fix | None:
    """Give the key another name (and another value); when the new name is there already, take the old entry out."""
    if not document.readable or not document.editable(path):
        return None
    if (*path[:-1], new) in document.entries:
        return remove(document, path, f"Remove `{printable(str(path[-1]))}`: `{new}` is set here")
    entry = document.entries[path]
    assert entry.key is not None
    edits = [Edit(*entry.key, new)]
    if value is not None:
        edits.append(Edit(*entry.value, value))
    return Fix(f"Rename to `{new}`" if value is None else f"Write `{new}: {value}`", tuple(edits))


def move(document: Document, schema: Schema, path: KeyPath, section: str, key: str, task: str = "sft") -> Fix | None:
    """Take the entry out and put it into `section` as `key`, where its value is a scalar that may stand there."""
    value = _value(document, path)
    spec = schema.field((section, key), task)
    title = f"Move to `{section}:`" + (f" as `{key}`" if key != path[-1] else "")
    if spec is None or isinstance(value, list | dict) or not document.editable(path):
        return None
    top = schema.fields(()) or {}
    if section not in document.data and any(nearest(str(key), [section]) for key in document.data if key not in top):
        return None  # the section is there, misspelt: that comes first
    if not fits(value, spec) or out_of_choices(value, spec) or out_of_range(section, key, value):
        return None
    out = remove_edit(document, path)
    if out is None or (section, key) in document.entries:
        return Fix(f"Remove: `{section}.{key}` is set", (out,)) if out else None
    into = insertion(document.text, document.entries, section, f"{key}: {as_yaml(value)}")
    return Fix(title, (out, into)) if into and not out.start < into.start < out.end else None


def _value(document: Document, path: KeyPath) -> object:
    value: object = document.data
    for part in path:
        value = value[part]  # type: ignore[index]
    return value


def _at_home_elsewhere(document: Document, schema: Schema, path: KeyPath) -> Problem:
    home = aliases.HOMES[str(path[-1])]
    message = f"`{path[-1]}` has its home in {home.advice}, not in `training:`"
    fix = move(document, schema, path, home.section, home.key) if home.key else None
    return problem_at_key(document, "RCP013", message, path, fix)


def _renamed(document: Document, path: KeyPath, renamed: aliases.Renamed) -> KeyFinding:
    name = path[-1]
    because = f": {renamed.why}" if renamed.why else ""
    if renamed.new is None:
        message = f"`{name}` is no longer an option{because}"
        return KeyFinding(problem_at_key(document, "RCP012", message, path, remove(document, path, f"Remove `{name}`")))
    message = f"`{name}` is now `{renamed.new}`{because}"
    if renamed.value is None:
        return KeyFinding(problem_at_key(document, "RCP012", message, path, rename(document, path, renamed.new)), renamed.new)
    text = renamed.value(_value(document, path))
    fix = rename(document, path, renamed.new, text) if text is not None else remove(document, path, f"Remove `{name}`")
    return KeyFinding(problem_at_key(document, "RCP012", message, path, fix))


def _moved(document: Document, schema: Schema, path: KeyPath, section: str, task: str) -> Problem | None:
    """A key that another section knows, or that belongs to another task's config."""
    name = str(path[-1])
    if len(path) > 2:
        return None
    for other in SECTIONS:
        if other != section and name in (schema.fields((other,), task) or {}):
            where = f"not in `{section}:`" if section else "not at the top of the recipe"
            message = f"`{name}` belongs in section `{other}:`, {where}"
            return problem_at_key(document, "RCP013", message, path, move(document, schema, path, other, name, task))
    if section == "training":
        owners = [known for known in schema.tasks.values() if name in schema.training_fields(known.name)]
        if owners:
            names = ", ".join(f"{known.config} (task {known.name})" for known in owners[:3])
            message = f"`{name}` is a field of {names}, not of {schema.tasks[task].config}"
            return problem_at_key(document, "RCP011", message, path, remove(document, path, f"Remove `{name}`"))
    return None


def _unknown(
    document: Document, schema: Schema, path: KeyPath, known_as: KeyPath, task: str, fields: Mapping[str, FieldSpec]
) -> KeyFinding:
    name = printable(str(path[-1]), limit=60)
    guess = nearest(str(path[-1]), [known for known in fields if (*path[:-1], known) not in document.entries])
    if guess:
        hint = f": did you mean `{guess}`?"
    else:
        hint = f": the keys here are {', '.join(fields)}" if len(fields) <= 12 else ", and none is like it"
    message = f"`{name}` is {_owner(schema, known_as[:-1], task)}{hint}"
    return KeyFinding(problem_at_key(document, "RCP011", message, path, rename(document, path, guess) if guess else None), guess)


def _owner(schema: Schema, path: KeyPath, task: str) -> str:
    """ "no field of SFTConfig (trl 1.16.0)" """
    if path == ("training",):
        return f"no field of {schema.tasks[task].config} (trl {schema.versions.get('trl', '?')})"
    if path == ("peft",):
        return f"no field of LoraConfig (peft {schema.versions.get('peft', '?')})"
    if path == ("quantization",):
        return f"no parameter of BitsAndBytesConfig (transformers {schema.versions.get('transformers', '?')})"
    if not path:
        return "no section of a recipe"
    if path[-1] == "columns":
        return "no column target"
    return f"no key of a source in `{dotted(path[:-1])}`" if isinstance(path[-1], int) else f"no key of section `{dotted(path)}`"
