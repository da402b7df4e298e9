"""What a recipe may rightly ask for and this version does not do yet: one list, for `tuitune validate` and for the trainer's journal."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tuitune.recipe import update_rows
from tuitune.recipe.adapter_start import refused_starts
from tuitune.recipe.problems import KeyPath, Severity
from tuitune.recipe.strategy import objections
from tuitune.recipe.tasks import TASKS, WHY_NOT


@dataclass(frozen=True)
class Unbuilt:
    """One wish. warning: the run goes on without it; error: it would be refused."""

    path: KeyPath
    message: str
    severity: Severity = "warning"


def unbuilt(recipe: Mapping[str, Any]) -> Iterator[Unbuilt]:
    """What of `recipe` (its sections by name, of any type: it may be wrong elsewhere) this version does not do."""
    task = recipe.get("task")
    if isinstance(task, str) and task not in TASKS:
        because = f"{WHY_NOT[task]}; " if task in WHY_NOT else ""
        yield Unbuilt(("task",), f"task {task}: {because}this version trains {', '.join(TASKS[:-1])} and {TASKS[-1]}", "error")
    quantization = _section(recipe, "quantization")
    quantized = quantization.get("load_in_4bit") is True or quantization.get("load_in_8bit") is True
    for path, message in refused_starts(_section(recipe, "peft"), task, quantized):
        yield Unbuilt(path, message, "error")
    yield from _tokenizer(_section(recipe, "tokenizer"))
    launch = _section(recipe, "launch")
    yield from (Unbuilt(path, message, "error") for path, message in objections(recipe))
    split = update_rows.objections(launch, _section(recipe, "training"))
    yield from (Unbuilt(path, message, "error") for path, message in split)
    why = update_rows.why_not_measured(launch, _section(recipe, "training"), recipe.get("task"))
    if why:
        yield Unbuilt(("launch", update_rows.MEASURE), f"launch.{update_rows.MEASURE} has no effect on this run: {why}")
    without = {
        ("training", "resume_from_checkpoint"): bool(_section(recipe, "training").get("resume_from_checkpoint")),
    }
    for path, wanted in without.items():
        if wanted:
            yield Unbuilt(path, f"{'.'.join(path)} is not built yet and has no effect on this run")


def _tokenizer(section: Mapping[str, Any]) -> Iterator[Unbuilt]:
    template = section.get("chat_template")
    if isinstance(template, str) and template and "." not in template and "/" not in template:
        message = "a Jinja file is meant, not the name of a template; a file of that name is written `./name`"
        yield Unbuilt(("tokenizer", "chat_template"), f"tokenizer.chat_template: {message}", "error")


def _section(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = recipe.get(name)
    return section if isinstance(section, dict) else {}
