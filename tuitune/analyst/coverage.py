"""The architecture without weights, and what of it an adapter trains: peft itself wraps the model on torch's meta device.

Nothing is read from the weight files and nothing is allocated, so a 70B model takes a second or two.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

import peft
import torch
from peft.tuners.lora import LoraModel
from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from peft.utils.other import AuxiliaryTrainingWrapper, get_pattern_key
from torch import nn

from tuitune.analyst.meta_model import meta_model
from tuitune.errors import UserError
from tuitune.recipe.recipe import Recipe
from tuitune.text import printable
from tuitune.trainer.build import lora_config
from tuitune.trainer.methods import method_for

Kind = Literal["trained", "frozen", "unreachable"]


@dataclass(frozen=True)
class Part:
    """A module that has weights of its own. `kind`: trained (an adapter on it, or it is trained whole), frozen, or unreachable (frozen, and
    LoRA has no layer for such a module); `parameters` of the base, those of a tied twin counted once; `trained` of them or beside them."""

    name: str
    kind: Kind
    parameters: int
    trained: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Coverage:
    """`refusal`: peft's reason for not wrapping the model, "" when it does. `ignored`: key of LoraConfig → entries that match nothing
    although others may; `layers`: how many blocks the model has; `modules`: the last parts of all modules' names."""

    parts: list[Part]
    modules: list[str]
    layers: int
    refusal: str = ""
    ignored: dict[str, list[str]] = field(default_factory=dict)

    @property
    def trained(self) -> int:
        """Trained parameters in all."""
        return sum(part.trained for part in self.parts)

    def nearest(self, name: str) -> str | None:
        """The module name that was most likely meant."""
        return next(iter(get_close_matches(name.rpartition(".")[2], self.modules, n=1, cutoff=0.7)), None)


def adapter_config(recipe: Recipe, model: Any) -> Any | None:
    """The LoraConfig that `model` is trained with: of the recipe, or of the adapter that it goes on with; None for full fine-tuning."""
    if recipe.peft is not None:
        return lora_config(recipe, method_for(recipe.task), model)
    named = recipe.model.get("adapter")
    if not named:
        return None
    try:
        config = peft.PeftConfig.from_pretrained(str(named))
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"the adapter {printable(str(named))} cannot be read: {printable(str(error), limit=200)}") from error
    config.inference_mode = False  # as PeftModel.from_pretrained(is_trainable=True) does
    return config


def coverage(recipe: Recipe, plain: Any) -> Coverage:
    """What of `plain` (meta_model's, it is left as it is) is trained."""
    config = adapter_config(recipe, plain)
    names = [name for name, _ in plain.named_modules() if name]
    modules = sorted({name.rpartition(".")[2] for name in names if not name.rpartition(".")[2].isdigit()})
    layers = int(getattr(plain.config.get_text_config(), "num_hidden_layers", 0) or 0)
    if config is None:
        return Coverage(list(_parts(plain, None)), modules, layers)
    ignored: dict[str, list[str]] = {}
    try:
        ignored = _ignored(config, names, layers)
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say is in `ignored` and in checks of their own
            wrapped = peft.get_peft_model(meta_model(recipe), config)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, re.error) as error:
        reason = printable(" ".join(str(error).split()), limit=300)
        return Coverage(list(_parts(plain, {})), modules, layers, reason or type(error).__name__, ignored)
    return Coverage(list(_parts(plain, _trained(wrapped))), modules, layers, "", ignored)


def _parts(plain: Any, trained: Mapping[str, int] | None) -> Iterator[Part]:
    """Every module of `plain` with weights. `trained`: module → parameters that are trained on it; None: all are, in place."""
    reachable: dict[type[Any], bool] = {}
    seen: set[int] = set()
    for name, module in plain.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if not own:
            continue
        new = [weight for weight in own.values() if id(weight) not in seen]
        seen.update(id(weight) for weight in new)
        parameters = sum(weight.numel() for weight in new)
        shape = tuple(max(own.values(), key=lambda weight: weight.numel()).shape)
        if trained is None:
            yield Part(name, "trained", parameters, parameters, shape)
            continue
        if type(module) not in reachable:
            reachable[type(module)] = _reachable(module)
        kind: Kind = "trained" if name in trained else "frozen" if reachable[type(module)] else "unreachable"
        yield Part(name, kind, parameters, trained.get(name, 0), shape)


def _trained(wrapped: Any) -> dict[str, int]:
    """Name of the base's module → trained parameters on it or in its trained copy; a copy shared by two modules is counted once."""
    base = wrapped.get_base_model()
    wrappers = [name for name, module in base.named_modules() if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)]
    outermost: list[str] = []
    for name in wrappers:  # a parent comes before its children
        if not outermost or not name.startswith(f"{outermost[-1]}."):
            outermost.append(name)
    found = dict.fromkeys(outermost, 0)
    for name, weight in base.named_parameters():
        if weight.requires_grad:
            parts = name.split(".")
            prefixes = (".".join(parts[:end]) for end in range(1, len(parts)))
            owner = next((prefix for prefix in prefixes if prefix in found), name.rpartition(".")[0])  # the latter: a bias, by `bias: all`
            found[owner] = found.get(owner, 0) + weight.numel()
    return found


def _reachable(module: nn.Module) -> bool:
    """Whether peft has a LoRA layer for modules like this one: it is asked to make one."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            LoraModel._create_new_module(peft.LoraConfig(r=1), "probe", module, r=1, lora_alpha=1)
    except (ValueError, TypeError, AttributeError, NotImplementedError):
        return False
    return True


def _ignored(config: Any, names: list[str], layers: int) -> dict[str, list[str]]:
    """Entries of a LoraConfig that match no module, by peft's own rules. peft takes most of them without a word."""
    found: dict[str, list[str]] = {}
    targets = config.target_modules
    if isinstance(targets, set | list):
        found["target_modules"] = sorted(one for one in targets if not _matches(one, names))
    found["modules_to_save"] = [one for one in config.modules_to_save or [] if not any(name.endswith(one) for name in names)]
    excluded = config.exclude_modules
    if isinstance(excluded, set | list):
        found["exclude_modules"] = sorted(one for one in excluded if not any(name == one or name.endswith(f".{one}") for name in names))
    for key in ("rank_pattern", "alpha_pattern"):
        patterns: Mapping[str, Any] = getattr(config, key) or {}
        found[key] = [one for one in patterns if not any(get_pattern_key([one], name) == one for name in names)]
    chosen = config.layers_to_transform
    numbers = [chosen] if isinstance(chosen, int) else list(chosen or [])
    found["layers_to_transform"] = [str(number) for number in numbers if not 0 <= number < layers]
    return {key: entries for key, entries in found.items() if entries}


def _matches(one: str, names: list[str]) -> bool:
    """Whether the entry `one` of target_modules matches a module, leaving aside what the rest of the config narrows it to."""
    alone = peft.LoraConfig(target_modules=[one])
    return any(check_target_module_exists(alone, name) for name in names)


def attention_refusal(recipe: Recipe, plain: Any) -> str:
    """Why the class of `plain` refuses model.attn_implementation, or why this box cannot run it; "" when it takes it."""
    wanted = recipe.model.get("attn_implementation")
    if wanted in (None, "auto", plain.config._attn_implementation):
        return ""
    try:
        meta_model(recipe, wanted)
    except (ValueError, ImportError) as error:
        return printable(" ".join(str(error).split()), limit=240)
    return ""
