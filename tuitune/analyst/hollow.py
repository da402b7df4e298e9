"""A model of the recipe's own architecture and vocabulary with next to nothing in it: what TRL needs of a model to prepare data."""

from typing import Any

import transformers

from tuitune.errors import UserError
from tuitune.recipe.new_tokens import rows_for
from tuitune.text import printable
from tuitune.trainer.build import Built, why_not_loaded
from tuitune.trainer.new_tokens import ids_to_hold

# Widths and depths under their common names (configs map gpt2's n_embd and the like to them). Everything that preparation looks at stays.
TINY = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "num_experts": 2,
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
}


def hollow_model(built: Built, tokenizer: Any) -> Any:
    """A randomly filled model of the recipe's class, at most some MiB, with a row for each new token. UserError when the config cannot be
    had or not be made small."""
    section = built.recipe.model
    name = str(section["name_or_path"])
    shared = {key: section[key] for key in ("revision", "trust_remote_code") if section.get(key) is not None}
    try:
        config = transformers.AutoConfig.from_pretrained(name, **shared)
    except Exception as error:
        place = f"{built.recipe.file}:{built.recipe.line('model', 'name_or_path')}"
        raise UserError(f"{place}: {why_not_loaded(name, error)}") from error
    shrink(config)
    text = config.get_text_config()
    text.vocab_size = rows_for(text.vocab_size, ids_to_hold(built.recipe, tokenizer))
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    auto = transformers.AutoModelForSequenceClassification if built.method.sequence_model else transformers.AutoModelForCausalLM
    try:
        return auto.from_config(config, trust_remote_code=bool(section.get("trust_remote_code")))
    except Exception as error:
        reason = printable(str(error).strip().partition("\n")[0], limit=200)
        raise UserError(
            f"{printable(name)} ({type(config).__name__}) cannot be made small enough to look at the data with it: {type(error).__name__}: "
            f"{reason}. Training is not affected"
        ) from error


def shrink(config: Any) -> None:
    """Make a config's model tiny in place; nested ones (text, vision) as well."""
    for key, value in TINY.items():
        if isinstance(getattr(config, key, None), int):
            setattr(config, key, value)
    layers = getattr(config, "layer_types", None)
    if isinstance(layers, list):
        config.layer_types = layers[: TINY["num_hidden_layers"]]
    for nested in getattr(config, "sub_configs", {}):
        inner = getattr(config, nested, None)
        if inner is not None:
            shrink(inner)
