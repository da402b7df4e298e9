"""What sliders and advice write into the recipe: keys with values become changes of the text, under the names that the recipe uses."""

from collections.abc import Mapping
from typing import Any

from tuitune.preflight.finding import Change, Fix
from tuitune.recipe.aliases import canonical_name
from tuitune.recipe.problems import KeyPath
from tuitune.recipe.values import as_yaml

SWITCH, OPTIONS, EVERY = "activation_checkpointing", "activation_checkpointing_kwargs", "every_n_layers"


def fix_of(data: Mapping[str, Any], values: Mapping[str, object]) -> Fix:
    """The change that gives keys ("training.max_length") their values in a recipe with these contents; None takes a key out."""
    changes: list[Change] = []
    for key, value in values.items():
        path: KeyPath = tuple(key.split("."))
        if path[0] == "training":
            changes += _of_training(data.get("training") or {}, str(path[1]), value)
        elif value is None:
            changes.append(Change(path, remove=True))
        else:
            changes.append(Change(path, value))
    return Fix(", ".join(words(values)), changes=tuple(changes))


def _of_training(training: Mapping[str, Any], name: str, value: object) -> list[Change]:
    """A key of `training:` as it is called there (two versions of transformers have two names for checkpointing)."""
    path = ("training", _written(training, name))
    options = training.get(_written(training, OPTIONS))
    if name == OPTIONS and isinstance(value, dict) and isinstance(options, dict):
        return [Change(("training", _written(training, OPTIONS), str(key)), item) for key, item in value.items()]
    changes = [Change(path, value)]
    if name == SWITCH and value and isinstance(options, dict) and options.get(EVERY, 1) != 1:
        changes.append(Change(("training", _written(training, OPTIONS), EVERY), 1))  # on alone means every layer
    return changes


def _written(training: Mapping[str, Any], name: str) -> str:
    return next((str(key) for key in training if canonical_name(str(key)) == name), name)


def as_sections(values: Mapping[str, object]) -> str:
    """The same in less room, section by section: "training: {max_length: 1024}"."""
    sections: dict[str, list[str]] = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, []).append(f"{name}: {as_yaml(value)}" if name else "")
    return ", ".join(f"{section}: {{{', '.join(inside)}}}" if inside != [""] else f"{section} out" for section, inside in sections.items())


def words(values: Mapping[str, object]) -> list[str]:
    """What is written, key by key, as it stands in the recipe."""
    return [f"{key}: {as_yaml(value)}" if value is not None else f"{key} taken out" for key, value in values.items()]
