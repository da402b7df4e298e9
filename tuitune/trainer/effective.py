"""The effective-config ledger of a run, read back from the trainer that was really built."""

from dataclasses import fields, replace
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Any

from tuitune.recipe.ledger import LedgerEntry, Source
from tuitune.recipe.new_tokens import written_tokens
from tuitune.recipe.strategy import strategy_of
from tuitune.recipe.update_rows import MEASURE
from tuitune.trainer.build import Built
from tuitune.trainer.proof import is_wanted

# Fields that say nothing about the training or hold secrets.
_LEFT_OUT = frozenset({"hub_token", "push_to_hub_token", "local_rank", "log_level", "log_level_replica"})


def ledger(built: Built) -> list[LedgerEntry]:
    """Every value in force, section by section, with where it came from."""
    trainer, recipe = built.trainer, built.recipe
    entries = [
        _entry(built, "recipe", "name", recipe.name),
        _entry(built, "recipe", "task", recipe.task),
        LedgerEntry("dataset", "format", built.train.format, "adjusted", recipe.line("dataset"), "what the columns make of the rows"),
        LedgerEntry("dataset", "train", recipe.dataset["train"], "recipe", recipe.line("dataset", "train")),
        LedgerEntry("dataset", "columns", built.train.columns, _columns_source(built), recipe.line("dataset", "train")),
    ]
    if built.eval is not None:
        entries.append(LedgerEntry("dataset", "eval", recipe.dataset["eval"], "recipe", recipe.line("dataset", "eval")))
    entries += _rewards(built) + _model(built)
    entries += _tokenizer(built) + _launch(built)
    entries += _section(built, "quantization", _quantization(trainer.model))
    entries += _section(built, "peft", _lora(trainer.model))
    arguments = {item.name: getattr(trainer.args, item.name) for item in fields(trainer.args) if item.name not in _LEFT_OUT}
    return entries + _section(built, "training", arguments)


def _rewards(built: Built) -> list[LedgerEntry]:
    """Which code judged the answers: the functions, and the hash of the file that they are in."""
    section = built.recipe.rewards
    if section is None or not built.method.rewarded:
        return []
    digest = sha256(Path(section["file"]).read_bytes()).hexdigest()
    entries = [_entry(built, "rewards", key, value) for key, value in section.items()]
    return [*entries, LedgerEntry("rewards", "file_sha256", digest, "adjusted", None, "of the file as it was when the run began")]


def _model(built: Built) -> list[LedgerEntry]:
    model, recipe = built.trainer.model, built.recipe
    trained = {str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters() if parameter.requires_grad}
    found: dict[str, Any] = {
        **recipe.model,
        "dtype": str(model.dtype).removeprefix("torch."),
        "attn_implementation": getattr(model.config, "_attn_implementation", None),
        "embedding_rows": model.get_input_embeddings().weight.shape[0],
    }
    entries = [_entry(built, "model", key, value) for key, value in found.items()]
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    entries.append(LedgerEntry("model", "trained_parameters", count, "adjusted", None, "counted on the built model"))
    return [*entries, LedgerEntry("model", "trained_dtype", "/".join(sorted(trained)), "adjusted", None, "read from the built model")]


def _tokenizer(built: Built) -> list[LedgerEntry]:
    """Special tokens and lengths as the trainer has them, and whether TRL trains on another template than the one that is saved."""
    trainer = built.trainer
    tokenizer = trainer.processing_class
    names = ("pad_token", "eos_token", "bos_token", "padding_side", "truncation_side", "model_max_length")
    entries = _section(built, "tokenizer", {name: getattr(tokenizer, name, None) for name in names})
    entries.append(_entry(built, "tokenizer", "add_special_tokens", written_tokens(built.recipe.tokenizer)))
    templates = {"chat_template": getattr(tokenizer, "chat_template", None), "training_template": getattr(trainer, "chat_template", None)}
    hashes = {name: sha256(text.encode()).hexdigest() if isinstance(text, str) else None for name, text in templates.items()}
    entries.append(replace(_entry(built, "tokenizer", "chat_template", hashes["chat_template"]), key="chat_template_sha256"))
    swapped = hashes["training_template"] not in (None, hashes["chat_template"])
    why = "TRL trains on its own copy of the template, which marks what counts for the loss" if swapped else None
    value = hashes["training_template"] if swapped else None
    return [*entries, LedgerEntry("tokenizer", "training_template_sha256", value, "adjusted" if swapped else "default", None, why)]


def _launch(built: Built) -> list[LedgerEntry]:
    """What of `launch:` is in force; what is not built yet is in no ledger but in the run's warnings."""
    recipe, model = built.recipe, built.trainer.model
    device = LedgerEntry("launch", "device", built.box.name, "adjusted", None, "the device that this process computes on")
    entries = [
        _entry(built, "launch", "gpus", recipe.launch.get("gpus", "auto")),
        _entry(built, "launch", "strategy", strategy_of(recipe.launch)),
        device,
        _entry(built, "launch", "proof", is_wanted(built)),
    ]
    if recipe.launch.get(MEASURE) is not None:
        entries.append(_entry(built, "launch", MEASURE, recipe.launch[MEASURE]))
    if hasattr(model, "peft_config"):
        trained = {str(weight.dtype).removeprefix("torch.") for weight in model.parameters() if weight.requires_grad}
        entries.append(_entry(built, "launch", "adapter_dtype", "/".join(sorted(trained))))
    return entries


def _quantization(model: Any) -> dict[str, Any]:
    """The quantisation as the built model has it, empty for none."""
    config = getattr(model.config, "quantization_config", None)
    if config is None:
        return {}
    return dict(config if isinstance(config, dict) else config.to_dict())


def _lora(model: Any) -> dict[str, Any]:
    """The adapter's configuration as peft has it, empty for full fine-tuning."""
    configs = getattr(model, "peft_config", None)
    if not configs:
        return {}
    config = configs.get("default") or next(iter(configs.values()))
    return {item.name: getattr(config, item.name) for item in fields(config)}


def _section(built: Built, section: str, values: dict[str, Any]) -> list[LedgerEntry]:
    return [_entry(built, section, key, value) for key, value in values.items()]


def _entry(built: Built, section: str, key: str, value: Any) -> LedgerEntry:
    """Where a value came from: filled in by us, written in the recipe (under this name or its twin), else the library's default."""
    from tuitune.recipe.aliases import twin

    recipe = built.recipe
    path = (key,) if section == "recipe" else (section, key)
    other = twin(key) if section == "training" else None
    line = recipe.line(*path) or (recipe.line(section, other) if other else None)
    fill = built.filled.get((section, key))
    source: Source = "adjusted" if fill else "recipe" if line is not None else "default"
    if isinstance(value, Enum):
        value = value.value
    return LedgerEntry(section, key, value, source, line, fill.why if fill else None)


def _columns_source(built: Built) -> Source:
    return "recipe" if all(source.get("columns") for source in built.recipe.dataset["train"]) else "adjusted"
