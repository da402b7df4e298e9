"""New tokens: into the tokenizer, rows of the model's embedding for them, and an adapter that trains and keeps these rows."""

import functools
from pathlib import Path
from typing import Any

import torch

from tuitune.errors import UserError
from tuitune.preflight.model_files import AdapterFiles
from tuitune.recipe.new_tokens import KEY, Modules, filled_in, objections, rows_for, written_tokens
from tuitune.recipe.recipe import Recipe
from tuitune.text import printable
from tuitune.trainer.box import FillIn

TOKENIZER = "tokenizer_config.json"  # every tokenizer's folder has one


def add_tokens(recipe: Recipe, tokenizer: Any) -> None:
    """Put the recipe's new tokens into its tokenizer. UserError for one that is a token already.

    With model.adapter they must have come with it: its embedding has a fixed number of rows.
    """
    wanted = written_tokens(recipe.tokenizer)
    known = [token for token in wanted if token in tokenizer.get_vocab()]
    place = f"{recipe.file}:{recipe.line(*KEY)}: tokenizer.add_special_tokens"
    if recipe.model.get("adapter"):
        strange = [token for token in wanted if token not in known]
        if strange:
            raise UserError(
                f"{place}: {_shown(strange)} did not come with model.adapter, whose embedding cannot grow; merge that adapter into the "
                "model first, then add the tokens to the merged model"
            )
    elif known:
        raise UserError(f"{place}: {_shown(known)} is a token of this tokenizer already; take it out of the list, it can be used as it is")
    elif wanted:
        tokenizer.add_special_tokens({"extra_special_tokens": wanted}, replace_extra_special_tokens=False)


def added_ids(recipe: Recipe, tokenizer: Any) -> list[int]:
    """The ids of the tokens that this recipe adds to the model's own; [] when they come with an adapter."""
    if recipe.model.get("adapter"):
        return []
    return [tokenizer.convert_tokens_to_ids(token) for token in written_tokens(recipe.tokenizer)]


def ids_to_hold(recipe: Recipe, tokenizer: Any) -> list[int]:
    """Ids beyond the model's own vocabulary for which this recipe makes rows: its own new tokens', or those of its adapter's tokenizer."""
    return [max(tokenizer.get_vocab().values())] if recipe.model.get("adapter") else added_ids(recipe, tokenizer)


def make_rows(model: Any, ids: list[int], seed: int) -> FillIn:
    """Give new tokens rows, spare ones if there are, with the mean of all tokens' rows as transformers sets them: the same for one seed.

    Returns the number of rows and why.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if min(ids) < rows:
            model.resize_token_embeddings(min(ids))  # what no token uses is no part of the mean, and is made anew
        model.resize_token_embeddings(rows_for(rows, ids))
    made = model.get_input_embeddings().weight.shape[0]
    new = "1 new token" if len(ids) == 1 else f"{len(ids)} new tokens"
    return FillIn(made, f"{new}: spare rows are used" if made == rows else f"{new}: {rows} rows were too few; a multiple of 64")


def adapter_fill_ins(recipe: Recipe, model: Any) -> dict[str, FillIn]:
    """Arguments of LoraConfig with which new tokens are trained and saved. UserError when the recipe's `peft:` says otherwise."""
    written, modules = recipe.peft or {}, modules_of(model)
    for objection in objections(written, modules):
        place = f"{recipe.file}:{recipe.line('peft', objection.key)}: peft.{objection.key}"
        raise UserError(f"{place}: with tokenizer.add_special_tokens {printable(objection.message)}")
    weight = model.get_input_embeddings().weight
    copies = 2 if modules.output and not modules.tied else 1
    more = copies * weight.numel() * 16 / 2**30  # float32: the copy, its gradient and two moments of the optimizer
    why = f"new tokens are learnt in a whole copy of the embedding (some {more:.1f} GiB with gradients and optimizer)"
    return {key: FillIn(value, why) for key, value in filled_in(written, modules).items()}


def modules_of(model: Any) -> Modules:
    """The model's embeddings under names that peft matches to them alone."""
    names = [name for name, _ in model.named_modules()]

    def short(module: Any) -> str:
        name: str = next(name for name, other in model.named_modules() if other is module)
        last = name.rpartition(".")[2]
        return last if sum(other.endswith(last) for other in names) == 1 else name

    given, taken = model.get_input_embeddings(), model.get_output_embeddings()
    if taken is None:
        return Modules(short(given), None, False)
    return Modules(short(given), short(taken), taken.weight is given.weight)


def fit_to_adapter(model: Any, recipe: Recipe, tokenizer: Any) -> FillIn | None:
    """Give the model as many rows as the embedding has that its adapter brings with new tokens; None when it has them."""
    weights = adapter_file(recipe.model["adapter"], "adapter_model.safetensors")
    rows = grown_to(model.get_input_embeddings().weight.shape[0], AdapterFiles(weights.parent), tokenizer) if weights else None
    if rows is None:
        return None
    model.resize_token_embeddings(rows, mean_resizing=False)  # the adapter holds all of them
    return FillIn(rows, "the adapter was trained with new tokens and brings its own embedding")


def grown_to(rows: int, adapter: AdapterFiles, tokenizer: Any) -> int | None:
    """Rows of the adapter's embedding, when it has more than the model's `rows` because its tokenizer has more tokens; else None."""
    brought = adapter.input_embedding
    return brought.shape[0] if brought and rows <= max(tokenizer.get_vocab().values()) < brought.shape[0] else None


def adapter_file(adapter: str, name: str) -> Path | None:
    """A file of an adapter, a folder or on the Hub; None when it has none or cannot be reached."""
    if Path(adapter).is_absolute():
        return Path(adapter) / name if (Path(adapter) / name).is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(adapter, name))
    except (HfHubHTTPError, OSError, ValueError):
        return None  # whoever loads the adapter itself says what is wrong with it


def join_types(model: Any) -> None:
    """Let embeddings that are trained in float32 work with a model that computes in 16 bits, and save each of them once."""
    from peft.utils.other import ModulesToSaveWrapper

    copies = [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]
    for wrapper in copies:
        inner = wrapper.original_module.weight.dtype
        for copy in wrapper.modules_to_save.values():
            if isinstance(copy, torch.nn.Embedding):
                copy.register_forward_hook(functools.partial(_cast_output, inner))
            elif isinstance(copy, torch.nn.Linear):
                copy.register_forward_pre_hook(_cast_input)
    if any(isinstance(wrapper.original_module, torch.nn.Embedding) for wrapper in copies):
        # peft would add original and copy of every embedding to it once more, because the vocabulary is not the base model's
        model.save_pretrained = functools.partial(model.save_pretrained, save_embedding_layers=False)


def _cast_output(dtype: torch.dtype, module: Any, arguments: Any, output: Any) -> Any:
    return output.to(dtype)


def _cast_input(module: Any, arguments: Any) -> Any:
    return (arguments[0].to(module.weight.dtype), *arguments[1:])


def _shown(tokens: list[str]) -> str:
    return printable(", ".join(repr(token) for token in tokens), limit=120)
