"""`python -m tuitune.analyst.export_schema`: the options of the installed trl, transformers and peft as one JSON document on stdout.

The only part of recipe checking that imports torch; tuitune.recipe.schema runs it as a subprocess once for each version set, caches
the result and owns the format number. Works on any transformers whose TrainingArguments are a dataclass.
"""

import contextlib
import dataclasses
import enum
import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
import types
import typing
from typing import Any

from tuitune.recipe.schema import FORMAT, installed_versions

_DTYPES = ["bfloat16", "float16", "float32"]
# Set by PEFT itself, never by a recipe.
_PEFT_INTERNAL = {"peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode", "runtime_config"}
# Fields typed as plain text whose documentation names every word that the library takes (tests/contract proves it for each of them);
# for other text fields the words found in the documentation are offered, not demanded.
_CLOSED = {
    *("packing_strategy", "train_sampling_strategy", "loss_type", "f_divergence_type", "log_level", "log_level_replica"),
    *("include_num_input_tokens_seen", "vllm_mode"),
}


def main() -> None:
    """Print the document. What the libraries print while they load goes to stderr."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    with contextlib.redirect_stdout(sys.stderr):
        document = export()
    json.dump(document, sys.stdout, separators=(",", ":"), sort_keys=False)


def export() -> dict[str, Any]:
    """See tuitune.recipe.schema.from_json for the reader."""
    import transformers

    training = _dataclass_fields(transformers.TrainingArguments)
    tasks = {}
    for name, (config, experimental) in _configs().items():
        fields = _dataclass_fields(config)
        own = {key: spec for key, spec in fields.items() if training.get(key) != spec}
        tasks[name] = {"config": config.__name__, "experimental": experimental, "fields": own}
    return {
        "format": FORMAT,
        "versions": installed_versions(),
        "training": training,
        "tasks": tasks,
        "peft": _peft_fields(),
        "quantization": _quantization_fields(),
        "model": _model_fields(),
    }


def _configs() -> dict[str, tuple[type, bool]]:
    """Task name → (config class, experimental): every trainer config that TRL exports, the stable ones first."""
    import transformers
    import trl
    import trl.experimental

    found: dict[str, tuple[type, bool]] = {}

    def add(module: Any, task: str | None) -> None:
        exported = getattr(module, "__all__", None) or dir(module)
        for name in exported:
            config = getattr(module, name, None) if name.endswith("Config") else None
            has_trainer = f"{name.removesuffix('Config')}Trainer" in exported
            if has_trainer and inspect.isclass(config) and issubclass(config, transformers.TrainingArguments):
                found.setdefault(task or name.removesuffix("Config").lower(), (config, task is not None))

    add(trl, None)
    for info in pkgutil.iter_modules(trl.experimental.__path__):
        try:
            add(importlib.import_module(f"trl.experimental.{info.name}"), info.name)
        except Exception as error:  # an experimental trainer may need packages that are not installed
            sys.stderr.write(f"trl.experimental.{info.name} cannot be imported: {error}\n")
    order = {"sft": 0, "dpo": 1, "kto": 2, "reward": 3, "grpo": 4}
    return dict(sorted(found.items(), key=lambda item: (item[1][1], order.get(item[0], 9), item[0])))


def _dataclass_fields(cls: Any) -> dict[str, Any]:
    hints = _type_hints(cls)
    docs = _class_docs(cls)
    fields = {}
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        documentation = docs.get(field.name, "") or str(field.metadata.get("help") or "")
        fields[field.name] = _spec(
            field.name, hints.get(field.name, Any), _default(field), documentation, str(field.metadata.get("help") or "")
        )
    return fields


def _type_hints(cls: Any) -> dict[str, Any]:
    """Evaluated annotations, class by class, so that one that cannot be evaluated does not take the others with it."""
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        namespace = vars(sys.modules.get(base.__module__, types.ModuleType("none")))
        for name, annotation in vars(base).get("__annotations__", {}).items():
            if isinstance(annotation, str):
                try:
                    annotation = eval(annotation, dict(namespace))  # the installed library's own source text
                except Exception:
                    annotation = Any
            hints[name] = annotation
    return hints


def _default(field: Any) -> Any:
    if field.default is not dataclasses.MISSING:
        return _plain(field.default)
    if field.default_factory is not dataclasses.MISSING:
        with contextlib.suppress(Exception):
            return _plain(field.default_factory())
    return None


def _plain(value: Any) -> Any:
    """The default as JSON; what JSON cannot say becomes null."""
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else None


def _spec(name: str, annotation: Any, default: Any, documentation: str, short: str) -> dict[str, Any]:
    kinds, choices = _kinds(annotation)
    if default is None:
        kinds.append("null")
    elif isinstance(default, float) and kinds == ["int"]:
        kinds = ["float"]
    if name == "loss_type" and kinds == ["list[str]"]:
        kinds = ["str", "list[str]"]  # TRL takes one word too
    spec: dict[str, Any] = {"type": " | ".join(dict.fromkeys(kinds)), "default": default, "doc": _readable(documentation)}
    if choices:
        spec["choices"] = choices
    elif "str" in kinds and set(kinds) <= {"str", "list[str]", "bool", "null"} and (words := _documented_words(documentation, short)):
        spec["choices"] = words
        if name not in _CLOSED:
            spec["open_choices"] = True
    if deprecated := _deprecation(name, documentation, short):
        spec["deprecated"] = deprecated
    return spec


def _kinds(annotation: Any) -> tuple[list[str], list[str]]:
    """The type's members in the words of tuitune.recipe.sections, and the words that an Enum or Literal allows."""
    origin = typing.get_origin(annotation)
    if origin is typing.Union or origin is types.UnionType:
        kinds, choices = [], []
        for member in typing.get_args(annotation):
            more, words = _kinds(member)
            kinds += more
            choices += words
        return list(dict.fromkeys(kinds)), list(dict.fromkeys(choices))
    if origin is typing.Literal:
        values = typing.get_args(annotation)
        return [_scalar_kind(type(value)) for value in values], [value for value in values if isinstance(value, str)]
    if annotation is None or annotation is type(None):
        return ["null"], []
    if origin in (list, tuple):
        inner = next(iter(typing.get_args(annotation)), Any)
        return [f"list[{_scalar_kind(inner)}]" if inner in (str, int, float, dict) else "list"], []
    if origin is dict or annotation is dict:
        return ["dict"], []
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        return ["str"], [str(member.value) for member in annotation]
    if inspect.isclass(annotation) and dataclasses.is_dataclass(annotation):
        return ["dict"], []
    return [_scalar_kind(annotation)], []


def _scalar_kind(annotation: Any) -> str:
    names = {bool: "bool", int: "int", float: "float", str: "str", dict: "dict", list: "list", type(None): "null"}
    return names.get(annotation, "any")


_PARAMETER = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:`?, `?\w+)*)(?: *\((?P<type>.*?)\))?:\s*(?P<rest>.*)$")


def _class_docs(cls: Any) -> dict[str, str]:
    """Field → text, out of the docstrings of the class and of those it derives from (nearest first)."""
    docs: dict[str, str] = {}
    for base in cls.__mro__:
        text = vars(base).get("__doc__") or ""
        for name, doc in _parameters(text).items():
            docs.setdefault(name, doc)
    return docs


def _parameters(docstring: str) -> dict[str, str]:
    """The entries `name (type): text` of a docstring in the libraries' style."""
    lines = inspect.cleandoc(docstring).expandtabs().splitlines()
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    level = 0
    for line in lines:
        indent = len(line) - len(line.lstrip())
        match = _PARAMETER.match(line)
        if match and line.strip() and (current is None or indent <= level) and indent >= 2:
            current, level = [match["rest"]], indent
            found.setdefault(match["names"], current)
        elif line.strip() and indent <= level:
            current = None
        elif current is not None:
            current.append(line.strip())
    return {name: "\n".join(text).strip() for name, text in found.items()}


def _readable(text: str) -> str:
    """Documentation without the markup of the web site."""
    text = re.sub(r"<Tip[^>]*>|</Tip>|<Deprecated[^>]*>|</Deprecated>|<[^>\n]{1,200}>", "", text)
    text = re.sub(r"\[`~?([^`\]]+)`\](?:\([^)]*\))?", r"`\1`", text)
    text = re.sub(r"\[([^\]]+)\]\((?:#[^)]*|[^)\s]+)\)", r"\1", text).replace("%%", "%")
    text = re.sub(r"(?<!\n)\n(?!\n|[-*] |\d\. )", " ", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


_LISTED = re.compile(
    r"[Pp]ossible (?:values|choices) are|[Oo]ptions(?: are)?:|[Mm]ust be (?:set to )?one of|[Oo]ne of|[Cc]an be(?: one of)?|[Ee]ither|"
    r"supported value is|[Ss]ampler for training:|[Ss]upported values"
)
_WORD = re.compile(r"""[`"']{1,2}([a-z][a-z0-9_-]*)[`"']{1,2}""")


def _documented_words(*texts: str) -> list[str]:
    """The quoted words of the sentences (and lists) that say what a field may be."""
    words: list[str] = []
    for text in texts:
        for match in _LISTED.finditer(text):
            rest = text[match.end() :]
            listed = re.match(r"[^\n]*:\s*\n\s*[-*] ", rest)
            if listed:
                words += re.findall(rf"^\s*[-*] {_WORD.pattern}", rest, re.MULTILINE)
                continue
            stop = re.search(r"(?<=[\w`\"')])\.(?:\s|$)", rest)
            words += _WORD.findall(re.sub(r"\b(?:when|with|requires?|if)\b[^.]*", "", rest[: stop.start()] if stop else rest))
    return list(dict.fromkeys(words))


def _deprecation(name: str, documentation: str, short: str) -> str | None:
    """What the library says about a field that is going away."""
    for text in (short, documentation):
        match = re.search(r"(?:^|(?<=[.\n] )|(?<=\n))\s*(?:Parameter `\w+` is d|D)eprecated\b[^\n]*", _readable(text))
        if match and name not in ("gradient_checkpointing", "gradient_checkpointing_kwargs"):
            return match[0].strip()[:240]
    return None


def _peft_fields() -> dict[str, Any]:
    from peft import LoraConfig, TaskType

    fields = {name: spec for name, spec in _dataclass_fields(LoraConfig).items() if name not in _PEFT_INTERNAL}
    fields["task_type"] = {**fields["task_type"], "type": "str | null", "choices": [str(member.value) for member in TaskType]}
    return fields


def _quantization_fields() -> dict[str, Any]:
    """BitsAndBytesConfig has a plain constructor: types come from defaults and its documentation."""
    from transformers import BitsAndBytesConfig

    docs = _parameters(BitsAndBytesConfig.__doc__ or "")
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(BitsAndBytesConfig.__init__).parameters.items():
        if name == "self" or parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            continue
        default = _plain(parameter.default)
        kind = {bool: "bool", float: "float", int: "int", str: "str"}.get(type(default), "list[str] | null")
        spec: dict[str, Any] = {"type": kind, "default": default, "doc": _readable(docs.get(name, ""))}
        if name == "bnb_4bit_quant_type":
            spec["choices"] = ["nf4", "fp4"]
        if name.endswith("dtype") or name.endswith("storage"):
            spec |= {"type": "str | null", "choices": [*_DTYPES, "uint8"] if name.endswith("storage") else _DTYPES}
        fields[name] = spec
    return fields


def _model_fields() -> dict[str, Any]:
    """What the installed transformers adds to our own description of the section."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    kernels = ["auto", "sdpa", "eager", *sorted(ALL_ATTENTION_FUNCTIONS.keys())]
    return {"attn_implementation": {"type": "str | null", "choices": list(dict.fromkeys(kernels)), "open_choices": True, "default": None}}


if __name__ == "__main__":
    main()
