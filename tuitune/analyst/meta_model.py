"""The recipe's architecture without weights, and what loading the weight files into it would say: no number is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from tuitune.errors import UserError
from tuitune.preflight.model_files import Tensor
from tuitune.recipe.recipe import Recipe
from tuitune.text import printable
from tuitune.trainer.build import why_not_loaded
from tuitune.trainer.methods import method_for

DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool},
}


@dataclass(frozen=True)
class LoadReport:
    """`missing`: weights that no file has and that would be random; `unexpected`: tensors of the files that the model has no place for;
    `mismatched`: (name, shape in the file, shape in the model)."""

    missing: list[str]
    unexpected: list[str]
    mismatched: list[tuple[str, list[int], list[int]]]


def meta_model(recipe: Recipe, attention: str | None = None) -> Any:
    """The recipe's model class on the meta device, with this attention implementation. UserError when the config cannot be had or its class
    cannot be made; ValueError or ImportError when the class refuses `attention`."""
    section = recipe.model
    name = str(section["name_or_path"])
    shared = {key: section[key] for key in ("revision", "trust_remote_code") if section.get(key) is not None}
    sequence = method_for(recipe.task).sequence_model
    auto = transformers.AutoModelForSequenceClassification if sequence else transformers.AutoModelForCausalLM
    more = {"attn_implementation": attention} if attention else {}
    try:
        config = transformers.AutoConfig.from_pretrained(name, **shared, **({"num_labels": 1} if sequence else {}))
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        with torch.device("meta"):
            return auto.from_config(config, trust_remote_code=bool(section.get("trust_remote_code")), **more)
    except Exception as error:
        if attention and isinstance(error, ValueError | ImportError):
            raise
        raise UserError(f"{recipe.file}:{recipe.line('model', 'name_or_path')}: {why_not_loaded(name, error)}") from error


def load_report(model: Any, tensors: Mapping[str, Tensor]) -> LoadReport:
    """What from_pretrained says of these tensors, by its own code: renamed, fused and tied weights are its business. It is only asked when
    the names and shapes are not simply the model's."""
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    tied = set(getattr(model, "all_tied_weights_keys", {}))
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if {**wanted, **found} == wanted and set(wanted) - set(found) <= tied:
        return LoadReport([], [], [])
    empty = {
        name: torch.empty(tensor.shape, dtype=DTYPES.get(tensor.dtype, torch.uint8), device="meta") for name, tensor in tensors.items()
    }
    try:
        _, told = type(model).from_pretrained(
            None, config=model.config, state_dict=empty, device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:
        reason = printable(str(error).strip().partition("\n")[0], limit=240)
        raise UserError(f"transformers cannot say whether the weight files fit the config ({type(error).__name__}: {reason})") from error
    mismatched = sorted((name, list(found), list(wanted)) for name, found, wanted in told["mismatched_keys"])
    return LoadReport(sorted(told["missing_keys"]), sorted(told["unexpected_keys"]), mismatched)


def embedding_names(model: Any) -> tuple[str, str]:
    """(name of the input embedding, of the output head) as modules of the model, e.g. ("model.embed_tokens", "lm_head"); "" for none."""

    def name_of(module: Any) -> str:
        return next((name for name, known in model.named_modules() if known is module), "") if module is not None else ""

    return name_of(model.get_input_embeddings()), name_of(model.get_output_embeddings())


def default_ends(model_type: str) -> set[int]:
    """The end tokens that a class of configs has when nobody says them; {} for a class that transformers does not know."""
    if model_type not in transformers.CONFIG_MAPPING:
        return set()
    found = transformers.CONFIG_MAPPING[model_type]().get_text_config().eos_token_id
    return {id for id in (found if isinstance(found, list) else [found]) if id is not None}
