"""Judging one value: does it have the type, is it one of the choices, is it in range; and which text would be right."""

import difflib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tuitune.recipe.sections import FieldSpec
from tuitune.recipe.yaml_reader import plain_value

_NAMES = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "null": "null",
    "dict": "a mapping (`key: value` lines below it)",
    "list": "a list",
    "list[str]": "a list of texts",
    "list[int]": "a list of whole numbers",
    "list[float]": "a list of numbers",
    "list[dict]": "a list (lines that begin with `- `)",
}
_WORDS = {"yes": True, "on": True, "y": True, "true": True, "no": False, "off": False, "n": False, "false": False}


def fits(value: object, spec: FieldSpec) -> bool:
    """Whether `value` has one of the field's types (a whole number is a number; true is not)."""
    return any(_fits(value, kind) for kind in spec.types)


def _fits(value: object, kind: str) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and all(_fits(item, kind[5:-1]) for item in value)
    if kind == "any":
        return True
    if kind == "null":
        return value is None
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"bool": bool, "str": str, "dict": dict, "list": list}.get(kind, object))


def expected(spec: FieldSpec) -> str:
    """ "a whole number or null" """
    if spec.choices and not spec.open_choices and "bool" not in spec.types:
        numbers = [_NAMES[kind] for kind in spec.types if kind in ("int", "float")]
        return " or ".join([*numbers, "one of " + ", ".join(spec.choices[:12]) + (", …" if len(spec.choices) > 12 else "")])
    names = [_NAMES.get(kind, kind) for kind in spec.types if not (kind == "int" and "float" in spec.types)]
    return " or ".join(dict.fromkeys(names))


def shown(value: object) -> str:
    """The value as it would be written in a recipe, short."""
    if isinstance(value, float):
        return f"{value:g}"
    text = json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, str) else value
    return text if len(text) <= 40 else text[:39] + "…"


def as_yaml(value: object) -> str:
    """A value as one line of YAML that reads back as the same value."""
    if isinstance(value, str):
        safe = re.fullmatch(r"[A-Za-z_./][\w./ -]*", value) and value == value.strip() and plain_value(value) == value
        return value if safe else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ", ".join(as_yaml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_yaml(key)}: {as_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else {True: ".inf", False: "-.inf"}.get(value > 0, ".nan")
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if value is None or isinstance(value, bool) else str(value)


def repaired(value: object, spec: FieldSpec, section: str) -> str | None:
    """The YAML text that was most likely meant where `value` has the wrong type; None when there is no good guess."""
    for guess, text in _guesses(value, spec):
        if fits(guess, spec) and not out_of_choices(guess, spec) and not out_of_range(section, spec.name, guess):
            return text
    return None


def _guesses(value: object, spec: FieldSpec) -> Iterator[tuple[object, str]]:
    """Other readings of `value`, each with its YAML text, the likeliest first."""
    if isinstance(value, str):
        yield from _readings(value.strip())
    if isinstance(value, list) and len(value) == 1:
        yield value[0], as_yaml(value[0])
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        yield int(value), str(int(value))
    if isinstance(value, bool) and spec.choices:
        for word in ("yes", "steps") if value else ("no", "none"):  # eval_strategy: false
            yield word, word
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value in (0, 1):
            yield bool(value), "true" if value else "false"
        yield str(value), as_yaml(str(value))
    if not isinstance(value, list | dict) and value is not None:
        yield [value], as_yaml([value])


def _readings(text: str) -> Iterator[tuple[object, str]]:
    """What a word may have been meant to be: a truth value, null, a number without quotes, separators or trailing letters."""
    if text.lower() in _WORDS:
        yield _WORDS[text.lower()], "true" if _WORDS[text.lower()] else "false"
    if text.lower() in ("none", "null", ""):
        yield None, "null"
    number = re.match(r"([-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?)[ ]?[A-Za-z%]*$", text)
    closed_up = re.sub(r"(?<=[\d.eE+-])[_, '](?=[\d.eE+-])", "", text)
    for candidate in (text, closed_up, number[1] if number else ""):
        if isinstance(plain_value(candidate), int | float):
            yield plain_value(candidate), candidate


def out_of_choices(value: object, spec: FieldSpec) -> list[str]:
    """The words in `value` that are none of the field's closed choices."""
    if not spec.choices:
        return []
    words = [word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)]
    if "bool" in spec.types and isinstance(value, bool):
        return []
    return [word for word in words if word not in spec.choices and not _pattern_choice(word, spec.choices)]


def _pattern_choice(word: str, choices: tuple[str, ...]) -> bool:
    """Choices such as `pissa_niter_[number of iters]` stand for many words."""
    return any("[" in choice and word.startswith(choice.split("[")[0]) for choice in choices)


def nearest(word: str, names: list[str] | tuple[str, ...], cutoff: float = 0.6) -> str | None:
    """The name most like `word`, ignoring case and the kind of dash; None when none is near."""
    plain = {name.lower().replace("-", "_"): name for name in reversed(list(names))}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), list(plain), n=1, cutoff=cutoff)
    return plain[found[0]] if found else None


@dataclass(frozen=True)
class Range:
    """Allowed numbers. `also`: single values outside that mean something of their own (max_steps: -1)."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False  # the low end itself is not allowed
    below: bool = False  # the high end itself is not allowed
    also: tuple[float, ...] = ()

    def holds(self, value: float) -> bool:
        if value in self.also:
            return True
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        parts = []
        if self.low > -math.inf:
            parts.append(f"{'more than' if self.above else 'at least'} {self.low:g}")
        if self.high < math.inf:
            parts.append(f"{'less than' if self.below else 'at most'} {self.high:g}")
        text = " and ".join(parts)
        return text + "".join(f", or {value:g}" for value in self.also)


_COUNT = Range(low=1)
_NOT_NEGATIVE = Range(low=0)
_POSITIVE = Range(low=0, above=True)
_SHARE = Range(low=0, high=1, below=True)
_ANY_SHARE = Range(low=0, high=1)

RANGES: dict[tuple[str, str], Range] = {
    **{
        ("training", name): _COUNT
        for name in (
            *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "max_length", "save_total_limit"),
            *("pad_to_multiple_of", "dataloader_prefetch_factor", "dataset_num_proc", "torch_empty_cache_steps", "ref_model_sync_steps"),
            *("max_completion_length", "num_generations", "num_iterations", "precompute_ref_batch_size", "ddp_timeout"),
            "eval_accumulation_steps",
        )
    },
    **{
        ("training", name): _POSITIVE
        for name in ("num_train_epochs", "adam_epsilon", "eval_steps", "save_steps", "logging_steps", "temperature", "ddp_bucket_cap_mb")
    },
    **{
        ("training", name): _NOT_NEGATIVE
        for name in ("warmup_steps", "weight_decay", "max_grad_norm", "dataloader_num_workers", "eval_delay", "beta", "neftune_noise_alpha")
    },
    **{("training", name): _SHARE for name in ("adam_beta1", "adam_beta2", "label_smoothing_factor", "label_smoothing")},
    ("training", "learning_rate"): Range(low=0, high=1, above=True),
    ("training", "max_steps"): Range(low=1, also=(-1,)),
    ("training", "seed"): Range(low=0, high=2**32 - 1),
    ("training", "data_seed"): Range(low=0, high=2**32 - 1),
    ("training", "ld_alpha"): _ANY_SHARE,
    ("training", "ref_model_mixup_alpha"): _ANY_SHARE,
    ("training", "top_p"): Range(low=0, high=1, above=True),
    ("peft", "r"): _COUNT,
    ("peft", "lora_alpha"): _POSITIVE,
    ("peft", "lora_dropout"): _SHARE,
    ("quantization", "llm_int8_threshold"): _NOT_NEGATIVE,
    ("dataset", "max_rows"): _COUNT,
    ("dataset", "weight"): _POSITIVE,
    ("watch", "every"): _COUNT,
    ("watch", "max_new_tokens"): _COUNT,
    ("watch", "seconds"): _POSITIVE,
    ("launch", "gpus"): _NOT_NEGATIVE,
    ("launch", "nodes"): _COUNT,
    ("launch", "oom"): _NOT_NEGATIVE,
    ("launch", "crash"): _NOT_NEGATIVE,
}


def out_of_range(section: str, name: str, value: object) -> str | None:
    """What the number should have been, or None when it may stand. Every number must be finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    allowed = RANGES.get((section, name))
    return None if allowed is None or allowed.holds(value) else str(allowed)
