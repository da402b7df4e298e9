"""Load a source for a job by the trainer's own rules: safetensors only, its tokenizer and template, rows for the tokens it was taught."""

from pathlib import Path
from typing import Any

import torch
import transformers

from tuitune.after.source import Source
from tuitune.errors import UserError
from tuitune.preflight.model_files import AdapterFiles
from tuitune.recipe.adapter_start import changes_base
from tuitune.text import printable
from tuitune.trainer.box import Box, model_dtype
from tuitune.trainer.build import why_no_adapter, why_not_loaded
from tuitune.trainer.device import look
from tuitune.trainer.eight_bits import say_it_once
from tuitune.trainer.new_tokens import TOKENIZER, grown_to, join_types

NF4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}  # where no recipe says how the base was quantised


def load(source: Source, *, adapter: bool, four_bit: bool, dtype: str | None = None, device: str | None = None) -> tuple[Any, Any]:
    """(model, tokenizer) in evaluation mode.

    adapter: with the source's adapter over its base (False: the base alone, with its own tokenizer). four_bit: the base as its recipe
    quantised it (8 bits too), in NF4 where none says how; else in `dtype` (None: as trained, 16 bits on a GPU). device: "cpu", "cuda" or
    None for the best there is. UserError for whatever the user can put right.
    """
    box = look(device == "cpu")
    if device == "cuda" and not box.cuda:
        raise UserError("no CUDA device is visible: the GPU is somebody else's or there is none; use the CPU (--cpu)")
    folder = source.adapter if adapter else None
    tokenizer = _from_pretrained(transformers.AutoTokenizer, source, _tokenizer_of(source, folder))
    model = _base(source, four_bit, dtype, box)
    text_config = model.config.get_text_config()
    if source.judges and text_config.pad_token_id is None:  # by it the last token of a padded row is found, which is scored
        text_config.pad_token_id = tokenizer.pad_token_id
    if folder is not None:
        model = _adapted(model, folder, tokenizer)
    model.eval()
    return model, tokenizer


def _tokenizer_of(source: Source, adapter: Path | None) -> str:
    """The folder or Hub id of the tokenizer: the one that was saved with the adapter, when there is one."""
    return str(adapter) if adapter is not None and (adapter / TOKENIZER).is_file() else source.base


def _base(source: Source, four_bit: bool, dtype: str | None, box: Box) -> Any:
    section = source.recipe.model if source.recipe else {}
    chosen = model_dtype(dtype or section.get("dtype"), box, full=False)
    wanted = chosen.value if chosen else (dtype or section["dtype"])
    arguments: dict[str, Any] = {"use_safetensors": True, "dtype": wanted}
    if section.get("attn_implementation") not in (None, "auto"):
        arguments["attn_implementation"] = section["attn_implementation"]
    if four_bit:
        say_it_once()
        arguments["quantization_config"] = quantisation(source, wanted)
    if box.cuda:
        arguments["device_map"] = {"": 0}
    if source.judges:
        return _from_pretrained(transformers.AutoModelForSequenceClassification, source, source.base, num_labels=1, **arguments)
    return _from_pretrained(transformers.AutoModelForCausalLM, source, source.base, **arguments)


def quantisation(source: Source, dtype: str) -> Any:
    """What the source was trained on, or NF4. dtype: of the computation, unless the recipe names one."""
    written = (source.recipe.quantization if source.recipe else None) or {}
    options = written if source.quantized else {**NF4, "load_in_4bit": True}
    return transformers.BitsAndBytesConfig(**{"bnb_4bit_compute_dtype": dtype, **options})


def _adapted(model: Any, folder: Path, tokenizer: Any) -> Any:
    """The model with the adapter over it; it grows first when the adapter brings rows of new tokens."""
    import peft

    files = AdapterFiles(folder)
    start = files.config.get("init_lora_weights")
    if changes_base(start):
        raise UserError(
            f"{printable(str(folder))} is a checkpoint whose adapter began as {printable(str(start))}: it fits a base that is on no disk; "
            "take the result of the run (its `adapter` folder), which is an adapter of the unchanged base"
        )
    rows = grown_to(model.get_input_embeddings().weight.shape[0], files, tokenizer)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)  # the adapter holds all of them
    try:
        adapted = peft.PeftModel.from_pretrained(model, str(folder))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise UserError(why_no_adapter(str(folder), error)) from error
    join_types(adapted)
    return adapted


def _from_pretrained(auto: Any, source: Source, name: str, **arguments: Any) -> Any:
    """auto.from_pretrained; failures become one sentence with the remedy."""
    if source.trust_remote_code:
        arguments["trust_remote_code"] = True
    if name == source.base and source.revision:
        arguments["revision"] = source.revision
    try:
        return auto.from_pretrained(name, **arguments)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise UserError(why_not_loaded(name, error)) from error
