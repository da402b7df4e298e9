"""From a recipe to the built trainer: model, tokenizer, data, config, adapter. Everything is TRL's, transformers' and peft's own."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from traceback import walk_tb
from typing import Any

import torch
import transformers
from datasets import Dataset
from jinja2 import TemplateError, TemplateSyntaxError

from tuitune.dataset.load import Split, load_split
from tuitune.errors import UserError
from tuitune.recipe.aliases import twin
from tuitune.recipe.devices import wants_cpu
from tuitune.recipe.new_tokens import written_tokens
from tuitune.recipe.recipe import Recipe, canonical_training
from tuitune.recipe.tasks import PROMPTED
from tuitune.recipe.unbuilt import unbuilt
from tuitune.runs.directory import RunDirectory
from tuitune.text import printable
from tuitune.trainer import varlen
from tuitune.trainer.adapter_dtype import set_adapter_dtype
from tuitune.trainer.box import Box, FillIn, attention, keeps_apart, model_dtype, training_fill_ins
from tuitune.trainer.control import controlled
from tuitune.trainer.device import look
from tuitune.trainer.eight_bits import say_it_once
from tuitune.trainer.joined_rows import join_rows
from tuitune.trainer.kernels import choose_kernels
from tuitune.trainer.methods import Method, method_for
from tuitune.trainer.new_tokens import (
    TOKENIZER,
    adapter_file,
    adapter_fill_ins,
    add_tokens,
    added_ids,
    fit_to_adapter,
    make_rows,
)
from tuitune.trainer.plain_adapter import base_is_changed, keep_beginning
from tuitune.trainer.ranks import this_rank
from tuitune.trainer.rewards import load_rewards
from tuitune.trainer.scored_positions import score_what_counts
from tuitune.trainer.strategy import device_map, leave_search, quantisation, settle_precision, strategy_fill_ins, verify_strategy


@dataclass
class Built:
    """The trainer and what went into it, for the ledger and the journal. `filled`: (section, key) → what tuitune chose and why."""

    trainer: Any
    method: Method
    box: Box
    recipe: Recipe
    train: Split
    eval: Split | None
    filled: dict[tuple[str, str], FillIn] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def build(recipe: Recipe, run: RunDirectory, chosen: Mapping[str, FillIn] | None = None) -> Built:
    """Build the trainer of `recipe`; UserError for whatever the user can put right. `chosen`: what of its `training:` tuitune has written
    into it (newest names), for the ledger."""
    built = begin(recipe)
    for key, fill in (chosen or {}).items():
        built.filled |= {("training", name): fill for name in (key, twin(key)) if name}
    if not built.box.cuda:
        score_what_counts()
    config, tokenizer = make_config(built, run.checkpoints), make_tokenizer(built)
    transformers.set_seed(config.seed)  # a reward model's new head is drawn while it is loaded; TRL seeds itself later
    model = _model(built, tokenizer, config.seed)
    assemble(built, config, tokenizer, model, _peft_config(built, model), **_reference(built, config, model), **_rewards(recipe))
    if len(built.trainer.train_dataset) == 0:
        length = getattr(config, "max_length", None)
        raise UserError(
            f"none of the {len(built.train.rows)} rows is left to learn from: with max_length {length} nothing that counts for the loss "
            "remains; raise training.max_length, or look at what the columns make of the rows"
        )
    if not _is_full(recipe):
        set_adapter_dtype(built)
    choose_kernels(built)
    leave_search(built)
    verify_strategy(recipe, built.trainer)
    if this_rank().first:
        keep_beginning(built.trainer.model, run.path)
    return built


def _reference(built: Built, config: Any, model: Any) -> dict[str, Any]:
    """Where TRL would load the model a second time, as what preferences are measured against: that one would lack rows of new tokens."""
    if not written_tokens(built.recipe.tokenizer) or not _is_full(built.recipe):
        return {}
    if built.recipe.task in ("grpo", "rloo") and config.beta:
        raise UserError(
            f"{built.method.trainer.__name__} loads its reference model from the Hub or the folder, without the rows of the new tokens; "
            "write training.beta: 0.0, or train an adapter (peft:)"
        )
    if getattr(config, "precompute_ref_log_probs", True):
        return {}
    return {"ref_model": copy.deepcopy(model)}


def _rewards(recipe: Recipe) -> dict[str, Any]:
    """What judges the answers, of a task whose model answers while it trains."""
    return {"reward_funcs": load_rewards(recipe.rewards)} if recipe.rewards and recipe.task in PROMPTED else {}


def begin(recipe: Recipe) -> Built:
    """Method, box and data of a recipe; its trainer is still None."""
    method, box = method_for(recipe.task), look(wants_cpu(recipe.launch, recipe.training))
    train = load_split(recipe.dataset["train"])
    evaluation = load_split(recipe.dataset["eval"], "eval") if recipe.dataset.get("eval") else None
    _check_shapes(recipe, method, train, evaluation)
    return Built(None, method, box, recipe, train, evaluation, warnings=_not_applied(recipe))


def assemble(built: Built, config: Any, tokenizer: Any, model: Any, adapter: Any, rows: Dataset | None = None, **more: Any) -> None:
    """Make `built.trainer` round a model: TRL prepares the data here. `rows`: built.train's with columns added to them; `more` goes to
    the trainer as it is. UserError with TRL's own reason when it refuses."""
    try:
        built.trainer = controlled(built.method.trainer)(
            model=model,
            args=config,
            train_dataset=rows_dataset(built.train) if rows is None else rows,
            eval_dataset=rows_dataset(built.eval) if built.eval else None,
            processing_class=tokenizer,
            peft_config=adapter,
            **more,
        )
        join_rows(built)
    except Exception as error:
        if not _is_refusal(error):
            raise
        name = built.method.trainer.__name__
        raise UserError(f"{name} refuses this recipe: {reason_of(error)}") from error


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, RuntimeError) and not _in_template(error):
        return "assistant_only_loss" in str(error)  # other words are the GPU's, not TRL's
    return isinstance(error, ValueError | TypeError | LookupError | OverflowError | ImportError | TemplateError) or _in_template(error)


def reason_of(error: BaseException) -> str:
    """What TRL, the tokenizer or the chat template says, in printable words; a template's failure says that it is one."""
    text = printable(" ".join(str(error).split()) or "no reason given", limit=600)
    if isinstance(error, TemplateSyntaxError):
        return f"the chat template does not parse (line {error.lineno}: {text}); correct tokenizer.chat_template, or take the model's own"
    if _in_template(error):
        return f"the chat template fails ({type(error).__name__}: {text}); correct the rows or tokenizer.chat_template"
    return text


def _in_template(error: BaseException) -> bool:
    """Whether it was raised while a Jinja template ran."""
    frames = walk_tb(error.__traceback__)
    return any(name in frame.f_globals for frame, _ in frames for name in ("__jinja_template__", "__jinja_exception__"))


def _check_shapes(recipe: Recipe, method: Method, *splits: Split | None) -> None:
    for split, name in zip(splits, ("train", "eval")):
        if split is None:
            continue
        if split.format.split()[0] not in method.shapes:
            raise UserError(f"dataset.{name}: task {recipe.task} trains on {' or '.join(method.shapes)} rows, these are {split.format}")
        for column in method.needs:
            if any(column not in row for row in split.rows):
                raise UserError(
                    f"dataset.{name}: task {recipe.task} needs a `{column}` in every row; say which column it is, e.g. {column}: {column}"
                )


def rows_dataset(split: Split) -> Dataset:
    """The rows as they are: `use_json` keeps values whose type or keys differ from row to row (tool calls) from being made alike."""
    return Dataset.from_list(split.rows, on_mixed_types="use_json")


def _not_applied(recipe: Recipe) -> list[str]:
    """What the recipe asks for and this version does not do; told in the journal and the log, because silence would be a lie."""
    return [wish.message for wish in unbuilt(vars(recipe)) if wish.severity == "warning"]


def make_config(built: Built, checkpoints: Path) -> Any:
    """The installed SFTConfig (DPOConfig …) with what the recipe says and what this box needs."""
    recipe, config_class = built.recipe, built.method.config
    arguments = canonical_training(recipe, {item.name for item in fields(config_class)})
    fills = training_fill_ins(arguments, built.box, checkpoints)
    fills |= {key: fill for key, fill in strategy_fill_ins(recipe, this_rank().world).items() if key not in arguments}
    for key, fill in fills.items():
        built.filled["training", key] = fill
        arguments[key] = fill.value
    if arguments.get("eval_strategy", "no") != "no" and built.eval is None:
        line = recipe.line("training", "eval_strategy")
        raise UserError(
            f"{recipe.file}:{line}: eval_strategy asks for evaluation, but dataset.eval names no data; add it or remove eval_strategy"
        )
    if arguments.get("eval_strategy", "no") != "no" and not built.method.evaluates:
        line = recipe.line("training", "eval_strategy")
        raise UserError(f"{recipe.file}:{line}: {built.method.trainer.__name__} has no evaluation; remove eval_strategy and dataset.eval")
    _refuse_sparse_checkpoints(recipe, arguments)
    try:
        config = config_class(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{recipe.file}:{recipe.line('training')}: {config_class.__name__} refuses this: {printable(str(error))}"
        ) from error
    settle_precision(config)
    return config


def _refuse_sparse_checkpoints(recipe: Recipe, arguments: dict[str, Any]) -> None:
    """TRL hands every_n_layers to torch's checkpoint function when it has computed DPO's reference, which fails in the first step
    (tests/contract/test_trainer_internals.py)."""
    written = arguments.get("gradient_checkpointing_kwargs") or arguments.get("activation_checkpointing_kwargs") or {}
    if recipe.task == "dpo" and "every_n_layers" in written:
        line = recipe.line("training", "activation_checkpointing_kwargs") or recipe.line("training", "gradient_checkpointing_kwargs")
        raise UserError(
            f"{recipe.file}:{line}: DPOTrainer cannot checkpoint every n-th layer only: it fails in the first step; remove every_n_layers"
        )


def load_tokenizer(recipe: Recipe) -> Any:
    """The model's tokenizer as it comes, or that which was saved with the adapter. UserError when it cannot be loaded."""
    adapter = recipe.model.get("adapter")
    return _from_pretrained(
        transformers.AutoTokenizer, recipe, "adapter" if adapter and adapter_file(adapter, TOKENIZER) else "name_or_path"
    )


def make_tokenizer(built: Built, loaded: Any = None) -> Any:
    """The tokenizer with the recipe's own tokens and template. `loaded`: one of load_tokenizer to be used for it, and changed."""
    recipe = built.recipe
    tokenizer = load_tokenizer(recipe) if loaded is None else loaded
    wanted = recipe.tokenizer
    add_tokens(recipe, tokenizer)
    for name in ("pad_token", "eos_token"):
        if wanted.get(name):
            if wanted[name] not in tokenizer.get_vocab():
                raise UserError(f"tokenizer.{name}: {printable(repr(wanted[name]))} is no token of this tokenizer; choose one that is")
            setattr(tokenizer, name, wanted[name])
    if wanted.get("chat_template"):
        path = Path(wanted["chat_template"])
        try:
            tokenizer.chat_template = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"tokenizer.chat_template: {printable(str(path))} cannot be read ({error})") from error
    if "conversational" in built.train.format and not tokenizer.chat_template:
        raise UserError(
            f"the rows are conversations, and the tokenizer of {printable(str(recipe.model['name_or_path']))} has no chat template: "
            "name a Jinja file in tokenizer.chat_template, take the model's instruct version, or map the columns to prompt and completion"
        )
    return tokenizer


def _model(built: Built, tokenizer: Any, seed: int) -> Any:
    recipe = built.recipe
    section = recipe.model
    arguments: dict[str, Any] = {"use_safetensors": True}
    dtype = model_dtype(section.get("dtype"), built.box, _is_full(recipe))
    if dtype:
        built.filled["model", "dtype"] = dtype
    arguments["dtype"] = dtype.value if dtype else section["dtype"]
    chosen = section.get("attn_implementation") not in (None, "auto")
    if chosen:
        arguments["attn_implementation"] = section["attn_implementation"]
    if recipe.quantization:
        say_it_once()
        stored = quantisation(recipe)
        built.filled |= {("quantization", key): fill for key, fill in stored.items()}
        values = recipe.quantization | {key: fill.value for key, fill in stored.items()}
        arguments["quantization_config"] = transformers.BitsAndBytesConfig(**values)
    arguments |= device_map(recipe, built.box, this_rank().local)
    auto = transformers.AutoModelForSequenceClassification if built.method.sequence_model else transformers.AutoModelForCausalLM
    if built.method.sequence_model:
        arguments["num_labels"] = 1
    model = _from_pretrained(auto, recipe, **arguments)
    if keeps_apart(recipe.task, recipe.training, section, model.config.to_dict(), built.box):
        model.set_attn_implementation(varlen.NAME)
        why = "rows that lie behind each other attend to themselves, without a mask"
        built.filled["model", "attn_implementation"] = FillIn(varlen.NAME, why)
    elif not chosen:
        built.filled["model", "attn_implementation"] = attention(model.config._attn_implementation)
    new = added_ids(recipe, tokenizer)
    if new:
        built.filled["model", "embedding_rows"] = make_rows(model, new, seed)
    if section.get("adapter"):
        import peft

        if recipe.peft:
            raise UserError("model.adapter continues that adapter, and peft: would add another; remove one of the two")
        grown = fit_to_adapter(model, recipe, tokenizer)
        if grown:
            built.filled["model", "embedding_rows"] = grown
        try:
            model = peft.PeftModel.from_pretrained(model, section["adapter"], is_trainable=True)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            place = f"{recipe.file}:{recipe.line('model', 'adapter')}"
            raise UserError(f"{place}: {why_no_adapter(str(section['adapter']), error)}") from error
        if base_is_changed(model):
            raise UserError(
                f"{recipe.file}:{recipe.line('model', 'adapter')}: this checkpoint's adapter (PiSSA or OLoRA) fits a changed base only; "
                "name the `adapter` folder of its run, which fits the base as it is"
            )
    return model


def _is_full(recipe: Recipe) -> bool:
    return recipe.peft is None and not recipe.model.get("adapter")


def _from_pretrained(auto: Any, recipe: Recipe, key: str = "name_or_path", **arguments: Any) -> Any:
    """auto.from_pretrained for what `model.<key>` names; failures become one sentence with the remedy."""
    name = str(recipe.model[key])
    wanted = ("revision", "trust_remote_code") if key == "name_or_path" else ("trust_remote_code",)
    shared = {option: recipe.model[option] for option in wanted if recipe.model.get(option) is not None}
    try:
        return auto.from_pretrained(name, **shared, **arguments)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise UserError(f"{recipe.file}:{recipe.line('model', key)}: {why_not_loaded(name, error)}") from error


def why_not_loaded(name: str, error: Exception) -> str:
    """A sentence with the remedy for a failed from_pretrained."""
    shown, reason = printable(name), printable(str(error).strip().partition("\n")[0], limit=240)
    path = Path(name)
    if path.is_absolute() and not path.exists():
        return f"the model folder {shown} does not exist"
    if type(error).__name__ == "SafetensorError":
        return f"the weights of {shown} are damaged or cut off ({reason}); download or copy them again"
    if "safetensors" in str(error) and ("no file named" in str(error) or "does not appear to have" in str(error)):
        return (
            f"{shown} has no safetensors weights, and tuitune loads no pickled ones (.bin); convert it, or take another copy of the model"
        )
    if "trust_remote_code" in str(error):
        return f"{shown} needs code of its own; read that code, then set model.trust_remote_code: true, or choose another model"
    if not path.exists() and isinstance(error, OSError):
        return f"the model {shown} is neither a folder nor to be had from cache or Hub ({reason}); check name, network, `hf auth login`"
    return f"the model {shown} cannot be loaded: {type(error).__name__}: {reason}"


def why_no_adapter(name: str, error: Exception) -> str:
    """A sentence with the remedy for an adapter that peft does not load."""
    shown, reason = printable(name), printable(str(error).strip().partition("\n")[0], limit=240)
    if Path(name).is_absolute() and not (Path(name) / "adapter_config.json").is_file():
        return f"there is no adapter in {shown} (no adapter_config.json); name the `adapter` folder of a run"
    if "size mismatch" in str(error):
        return f"the adapter {shown} was trained on a model of another shape than model.name_or_path; name the model it was trained on"
    return f"the adapter {shown} cannot be loaded: {type(error).__name__}: {reason}"


def _peft_config(built: Built, model: Any) -> Any:
    if built.recipe.peft is None:
        return None
    if built.recipe.peft.get("task_type") in (None, "auto"):
        built.filled["peft", "task_type"] = FillIn(built.method.lora_task, f"follows from task {built.recipe.task}")
    if written_tokens(built.recipe.tokenizer):
        built.filled |= {("peft", key): fill for key, fill in adapter_fill_ins(built.recipe, model).items()}
    return lora_config(built.recipe, built.method, model)


def lora_config(recipe: Recipe, method: Method, model: Any) -> Any:
    """peft's configuration of section `peft:` for `model`, with what new tokens need. UserError when peft or they refuse it."""
    import peft

    arguments = dict(recipe.peft or {})
    if written_tokens(recipe.tokenizer):
        arguments |= {key: fill.value for key, fill in adapter_fill_ins(recipe, model).items()}
    if arguments.get("task_type") in (None, "auto"):
        arguments["task_type"] = method.lora_task
    try:
        return peft.LoraConfig(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{recipe.file}:{recipe.line('peft')}: LoraConfig refuses this: {printable(str(error))}") from error
