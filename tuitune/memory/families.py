"""From a model's config.json to its shape, family by family, as the modelling code of transformers 5 builds it.

Every family is proven against the installed transformers by tests/contract/test_memory_shapes.py: parameters of the model, and bytes that a
layer keeps for the backward pass.
"""

from collections.abc import Callable
from dataclasses import replace

from tuitune.errors import UserError
from tuitune.memory import dense, mixtures
from tuitune.memory.dense import Config
from tuitune.memory.shape import NoFormula, Shape
from tuitune.text import printable


def read_shape(config: Config) -> Shape:
    """The shape of the language model that config.json describes. NoFormula for a family that is not known, UserError for a config without
    sizes."""
    inner = next((config[name] for name in ("text_config", "llm_config") if isinstance(config.get(name), dict)), config)
    family = str(inner.get("model_type") or config.get("model_type") or "")
    reader = FAMILIES.get(family)
    if reader is None:
        raise NoFormula(f"tuitune has no formula for models of type {printable(family or 'unknown', limit=60)}")
    tied = next((one["tie_word_embeddings"] for one in (inner, config) if isinstance(one.get("tie_word_embeddings"), bool)), None)
    try:
        shape = reader(inner)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"config.json of this {printable(family)} model lacks or garbles a size ({printable(str(error))}); copy it again"
        ) from error
    return replace(shape, family=family, tied=shape.tied if tied is None else tied)


FAMILIES: dict[str, Callable[[Config], Shape]] = {
    "llama": dense.llama,
    "mistral": dense.mistral,
    "qwen2": dense.qwen2,
    "qwen3": dense.qwen3,
    "gemma": dense.gemma,
    "gemma2": dense.gemma2,
    "gemma3_text": dense.gemma3,
    "smollm3": dense.llama,
    "granite": dense.llama,
    "olmo2": dense.olmo2,
    "stablelm": dense.stablelm,
    "starcoder2": dense.starcoder2,
    "phi": dense.phi,
    "phi3": dense.phi3,
    "gpt_neox": dense.gpt_neox,
    "gpt2": dense.gpt2,
    "mixtral": mixtures.mixtral,
    "qwen2_moe": mixtures.qwen2_moe,
    "qwen3_moe": mixtures.qwen3_moe,
    "olmoe": mixtures.olmoe,
    "granitemoe": mixtures.granitemoe,
}
