"""Is this recipe right? Every finding with its place and, where there is one, the edit that puts it right."""

import re
from collections.abc import Iterator

from tuitune.recipe import aliases, new_tokens
from tuitune.recipe.document import Document
from tuitune.recipe.edits import spread
from tuitune.recipe.keys import judge_key, problem_at_key, remove
from tuitune.recipe.problems import Edit, Fix, KeyPath, Problem, Severity, dotted
from tuitune.recipe.schema import Schema
from tuitune.recipe.sections import AUTO, FieldSpec
from tuitune.recipe.tasks import PAIRED, PROMPTED
from tuitune.recipe.unbuilt import unbuilt
from tuitune.recipe.values import as_yaml, expected, fits, nearest, out_of_choices, out_of_range, repaired, shown
from tuitune.text import printable


def validate(document: Document, schema: Schema) -> list[Problem]:
    """All problems of the recipe, those of the YAML included, sorted by position. No error among them: it can be trained."""
    problems = list(document.problems)
    if document.data:
        found = [*_mapping(document, schema, (), (), document.data, task_of(document, schema))]
        found += [*_contradictions(document), *_unbuilt(document, schema), *_rewards(document, task_of(document, schema))]
        broken_from = document.broken_from
        problems += [problem for problem in found if broken_from is None or problem.end_line < broken_from]
    unique = {(problem.code, problem.line, problem.column, problem.message): problem for problem in problems}
    return sorted(unique.values(), key=lambda problem: (problem.line, problem.column, problem.code))


def task_of(document: Document, schema: Schema) -> str:
    """The recipe's task, sft when it has none that is known."""
    task = document.data.get("task")
    return task if isinstance(task, str) and task in schema.tasks else "sft"


def _task(document: Document, schema: Schema, path: KeyPath, task: str) -> Iterator[Problem]:
    known = schema.tasks.get(task)
    if known is None:
        stable = [name for name, spec in schema.tasks.items() if not spec.experimental]
        guess = nearest(task, stable) or nearest(task, list(schema.tasks))
        message = f"`{printable(task, limit=40)}` is no task of the installed TRL: it has {', '.join(stable)}, and experimental ones"
        yield _at_value(document, "RCP018", message, path, _rewrite(document, path, guess) if guess else None)
    elif known.experimental:
        message = f"{known.config} is in trl.experimental: it may change or go in any release of TRL"
        yield _at_value(document, "RCP019", message, path, None, "warning")


def _name(document: Document, path: KeyPath, name: str) -> Iterator[Problem]:
    """Run directories are called after the recipe."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", name, re.ASCII):
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-._")[:64].strip("-._")
        message = "`name` names the run's folder: up to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit"
        yield _at_value(document, "RCP024", message, path, _rewrite(document, path, as_yaml(plain)) if plain else None)


def _mapping(document: Document, schema: Schema, path: KeyPath, known_as: KeyPath, data: dict[str, object], task: str) -> Iterator[Problem]:
    """The keys and values of the mapping at `path`, and what is missing in it.

    `known_as` is where the schema has this mapping: below a misspelt key its values are judged too, as if the key were right.
    """
    fields = schema.fields(known_as, task)
    if fields is None:
        return
    present = set(data)
    for key, value in data.items():
        here, known = (*path, key), (*known_as, key)
        finding = judge_key(document, schema, here, known, task)
        if finding is not None:
            yield finding.problem
            if finding.becomes is None or finding.becomes in data:
                continue
            present.add(finding.becomes)
            known = (*known_as, finding.becomes)
        spec = schema.field(known, task)
        if spec is not None:
            yield from _value(document, schema, here, known, value, spec, task)
    if document.readable:
        yield from (_missing(document, path, (*known_as, name)) for name, spec in fields.items() if spec.required and name not in present)
    if known_as[-1:] == ("columns",):
        yield from _columns(document, path, present, task)


def _missing(document: Document, where: KeyPath, known_as: KeyPath) -> Problem:
    """The required key at the end of `known_as` is not in the mapping written at `where`."""
    message = f"`{known_as[-1]}:` is missing" + (f" in `{dotted(known_as[:-1])}`" if where else "")
    if where:
        span = document.key_span(where)
        return Problem("RCP010", "error", message, span.line, span.column, span.end_line, span.end_column, (*where, known_as[-1]))
    fix = None
    if known_as == ("task",) and document.entries[()].style == "mapping":
        first = document.entries[()].value[0]
        fix = Fix("Add `task: sft`", (Edit(first, first, "task: sft\n"),))
    return Problem("RCP010", "error", message, 1, 1, 1, 1, known_as, fix)


def _value(
    document: Document, schema: Schema, path: KeyPath, known_as: KeyPath, value: object, spec: FieldSpec, task: str
) -> Iterator[Problem]:
    """One value against its field; goes on into sections and lists."""
    section, name = str(known_as[0]), str(known_as[-1])
    if value == "auto" and (section, spec.name) in AUTO:
        return
    if value is None and "null" in spec.types and len(path) == 1:
        if document.entry(path).style == "empty":
            message = f"section `{name}:` is empty: it has no effect"
            yield problem_at_key(document, "RCP023", message, path, remove(document, path, f"Remove `{name}:`"), "warning")
        return
    if value == "" and spec.required:
        yield _at_value(document, "RCP010", f"`{name}` is empty: it must be {expected(spec)}", path, None)
        return
    if not fits(value, spec):
        yield _wrong_type(document, path, name, value, spec)
        return
    if spec.deprecated:
        yield problem_at_key(
            document, "RCP020", f"`{name}`: {spec.deprecated}", path, remove(document, path, f"Remove `{name}`"), "warning"
        )
    if known_as == ("task",):
        yield from _task(document, schema, path, str(value))
    elif known_as == ("name",):
        yield from _name(document, path, str(value))
    else:
        yield from _choice(document, path, name, value, spec)
    if known_as == new_tokens.KEY and isinstance(value, list):
        for at, fault in new_tokens.faults(value):
            yield _at_value(document, "RCP026", printable(fault, limit=160), (*path, at), None)
    right = out_of_range(section, spec.name, value)
    if right is not None:
        message = f"`{name}` must be {right}, not {_written(document, path, value)}"
        yield _at_value(document, "RCP017", message, path, _default_fix(document, path, spec))
    yield from _below(document, schema, path, known_as, value, task)


def _below(document: Document, schema: Schema, path: KeyPath, known_as: KeyPath, value: object, task: str) -> Iterator[Problem]:
    if isinstance(value, dict):
        yield from _mapping(document, schema, path, known_as, value, task)
    if isinstance(value, list) and schema.fields((*known_as, 0), task) is not None:
        if not value and known_as == ("dataset", "train"):
            yield _at_value(document, "RCP010", "`train:` has no source: add `- path: …`", path, None)
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield from _mapping(document, schema, (*path, index), (*known_as, index), item, task)


def _wrong_type(document: Document, path: KeyPath, name: str, value: object, spec: FieldSpec) -> Problem:
    if value == "auto":
        message = f"`{name}` cannot be `auto`: it must be {expected(spec)}"
        return _at_value(document, "RCP022", message, path, _default_fix(document, path, spec))
    if value is None:
        message = f"`{name}` has no value: it must be {expected(spec)}"
        return _at_value(document, "RCP015", message, path, _default_fix(document, path, spec))
    if spec.type.startswith("list[dict]") and isinstance(value, str):
        fix = _rewrite(document, path, f"[{{path: {as_yaml(value)}}}]")
        return _at_value(document, "RCP015", f"`{name}` must be a list of sources: `- path: {printable(shown(value))}`", path, fix)
    if spec.type.startswith("list[dict]") and isinstance(value, list):
        wrong = next(index for index, item in enumerate(value) if not isinstance(item, dict))
        here = (*path, wrong)
        fix = _rewrite(document, here, f"{{path: {as_yaml(value[wrong])}}}") if isinstance(value[wrong], str) else None
        return _at_value(document, "RCP015", f"a source is a mapping: `- path: {printable(shown(value[wrong]))}`", here, fix)
    if "dict" in spec.types and isinstance(value, str) and re.match(r"[A-Za-z_][\w.-]*:[^\s/]", value):
        fix = _rewrite(document, path, value.replace(":", ": ", 1)) if document.entry(path).style == "plain" else None
        return _at_value(document, "RCP015", f"a blank is missing after the `:` of {printable(shown(value))}", path, fix)
    text = repaired(value, spec, str(path[0]))
    message = f"`{name}` must be {expected(spec)}, not {_written(document, path, value)}"
    return _at_value(document, "RCP015", message, path, _rewrite(document, path, text) if text is not None else None)


def _written(document: Document, path: KeyPath, value: object) -> str:
    """The value as the user wrote it, for messages."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"the list {printable(shown(value))}"
    entry = document.entries.get(path)
    if entry is not None and spread(document.text, entry):
        return f"{printable(shown(value))} (it goes on in the line below: is that indented too far?)"
    written = document.text[slice(*entry.value)] if entry is not None and entry.style in ("plain", "quoted") else shown(value)
    return printable(written, limit=40)


def _choice(document: Document, path: KeyPath, name: str, value: object, spec: FieldSpec) -> Iterator[Problem]:
    for word in out_of_choices(value, spec):
        guess = nearest(word, spec.choices, cutoff=0.75 if spec.open_choices else 0.5)
        if spec.open_choices and guess is None:
            continue
        here: KeyPath = (*path, value.index(word)) if isinstance(value, list) else path
        hint = (
            f": did you mean `{guess}`?"
            if guess
            else f": it has {', '.join(spec.choices[:12])}" + (", …" if len(spec.choices) > 12 else "")
        )
        message = f"`{printable(word, limit=40)}` is not a value of `{name}`{hint}"
        severity: Severity = "warning" if spec.open_choices else "error"
        yield _at_value(document, "RCP016", message, here, _rewrite(document, here, as_yaml(guess)) if guess else None, severity)


# What tuitune.dataset.columns makes rows of; `tools` and `chat_template_kwargs` go along with conversations.
_FAMILIES = (
    ("messages", {"messages", "tools", "chat_template_kwargs", "label"}),
    ("text", {"text"}),
    ("user and assistant", {"system", "user", "context", "assistant", "reasoning", "tools", "chat_template_kwargs", "label"}),
    ("prompt and completion", {"prompt", "completion", "label", "tools", "chat_template_kwargs"}),
    ("chosen and rejected", {"prompt", "chosen", "rejected"}),
)
_TOGETHER = (("assistant", ("user",)), ("completion", ("prompt",)), ("chosen", ("rejected",)), ("rejected", ("chosen",)))


def _columns(document: Document, path: KeyPath, columns: set[str], task: str) -> Iterator[Problem]:
    """Targets that make no row together."""
    targets = {target for target in columns if any(target in family for _, family in _FAMILIES)}
    if task in PROMPTED:
        yield from _prompts(document, path, targets, task)
        return
    if not targets:
        return
    if not any(targets <= family for _, family in _FAMILIES):
        ways = "; ".join(name for name, _ in _FAMILIES)
        message = f"the columns {', '.join(sorted(targets))} do not go together: a row is one of {ways}"
        yield problem_at_key(document, "RCP021", message, path, None)
        return
    if task in PAIRED and "chosen" not in targets:
        yield problem_at_key(document, "RCP021", f"task {task} needs columns for `chosen` and `rejected`", path, None)
    for target, partners in _TOGETHER:
        for partner in partners:
            if target in targets and partner not in targets:
                yield problem_at_key(document, "RCP021", f"`{target}` needs a column for `{partner}` beside it", (*path, target), None)
    if task == "sft" and "user" in targets and "assistant" not in targets:
        yield problem_at_key(
            document, "RCP021", "`user` needs a column for `assistant` beside it: there is nothing to learn", (*path, "user"), None
        )


def _prompts(document: Document, path: KeyPath, targets: set[str], task: str) -> Iterator[Problem]:
    """Prompts alone, and whatever else the reward functions are to see."""
    if ("user" in targets) == ("prompt" in targets):
        message = f"task {task} answers prompts: map `user` (a conversation), or `prompt` (raw text, or a list of turns)"
        yield problem_at_key(document, "RCP021", message, path, None)
    for target in sorted(targets & {"assistant", "completion", "chosen", "rejected", "messages", "text"}):
        message = f"`{target}` makes a row of another task: {task} writes the answers itself; give the column another name for the rewards"
        yield problem_at_key(document, "RCP021", message, (*path, target), None)


def _rewards(document: Document, task: str) -> Iterator[Problem]:
    """Answers have to be judged, and nothing else can be."""
    there = bool(_section(document, "rewards"))
    if task in PROMPTED and not there and document.readable and "task" in document.data:
        message = f"task {task} needs a section `rewards:` with a file and its functions, which judge the answers"
        yield _at_value(document, "RCP010", message, ("task",), None)
    if there and task not in PROMPTED:
        message = f"section `rewards:` has no effect on task {task}: only {', '.join(PROMPTED)} are rewarded"
        yield problem_at_key(document, "RCP023", message, ("rewards",), remove(document, ("rewards",), "Remove `rewards:`"), "warning")


def _contradictions(document: Document) -> Iterator[Problem]:
    """Settings of which only one can hold."""
    training, quantization = _section(document, "training"), _section(document, "quantization")
    for new, old in aliases.TWINS:
        if new in training and old in training:
            path = ("training", old)
            message = f"`{old}` is the former name of `{new}`, which is set here too"
            yield problem_at_key(document, "RCP014", message, path, remove(document, path, f"Remove `{old}`"))
    if training.get("bf16") is True and training.get("fp16") is True:
        path = ("training", "fp16")
        yield problem_at_key(document, "RCP014", "`bf16` and `fp16` exclude each other", path, remove(document, path, "Remove `fp16`"))
    if quantization.get("load_in_4bit") is True and quantization.get("load_in_8bit") is True:
        path = ("quantization", "load_in_8bit")
        message = "`load_in_4bit` and `load_in_8bit` exclude each other"
        yield problem_at_key(document, "RCP014", message, path, remove(document, path, "Remove `load_in_8bit`"))
    quantized = quantization.get("load_in_4bit") is True or quantization.get("load_in_8bit") is True
    if quantized and document.readable and not document.data.get("peft") and not _section(document, "model").get("adapter"):
        message = "quantised weights cannot be trained: add a `peft:` section, or remove `quantization:`"
        yield problem_at_key(document, "RCP014", message, ("quantization",), None)
    if document.data.get("peft") and _section(document, "model").get("adapter"):
        message = "`adapter` goes on with that adapter, and `peft:` would add another: remove one of the two"
        yield problem_at_key(document, "RCP014", message, ("model", "adapter"), remove(document, ("model", "adapter"), "Remove `adapter`"))


def _unbuilt(document: Document, schema: Schema) -> Iterator[Problem]:
    """What the trainer would refuse, or do without, though it is said rightly."""
    for wish in unbuilt(document.data):
        if wish.path == ("task",) and document.data["task"] not in schema.tasks:
            continue  # an unknown task is told already
        place = _at_value if wish.severity == "error" else problem_at_key
        yield place(document, "RCP025", printable(wish.message), wish.path, None, wish.severity)


def _section(document: Document, name: str) -> dict[str, object]:
    section = document.data.get(name)
    return section if isinstance(section, dict) else {}


def _rewrite(document: Document, path: KeyPath, text: str) -> Fix | None:
    if not document.editable(path):
        return None
    entry = document.entries[path]
    if entry.style in ("mapping", "sequence", "block") or spread(document.text, entry):
        return None  # over several lines: an edit would need the indentation too
    return Fix(f"Write `{printable(text, limit=60)}`", (Edit(*entry.value, f" {text}" if entry.style == "empty" else text),))


def _default_fix(document: Document, path: KeyPath, spec: FieldSpec) -> Fix | None:
    """Take the entry out where a default steps in."""
    if spec.required or len(path) != 2:
        return None
    default = "" if spec.default is None else f": the default {shown(spec.default)} holds"
    return remove(document, path, f"Remove `{path[-1]}`{default}")


def _at_value(document: Document, code: str, message: str, path: KeyPath, fix: Fix | None, severity: Severity = "error") -> Problem:
    span = document.value_span(path)
    return Problem(code, severity, message, span.line, span.column, span.end_line, span.end_column, path, fix)
