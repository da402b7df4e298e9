"""Small sound models with real tokenizers: the files of real_tokenizers.py, and weights of the same architecture with hidden size 16."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.real_tokenizers import folder_of

ENDS = {"llama3": ["<|end_of_text|>", "<|eot_id|>"], "gemma": ["<eos>", "<end_of_turn>"], "gemma3": ["<eos>", "<end_of_turn>"]}
PADDED = 64  # rows are a multiple of this, as in most published models


def make_small_model(folder: Path, name: str, rows: int | None = None, **config: Any) -> Path:
    """A model with the tokenizer `name` in `folder`: random weights, special ids in config.json and generation_config.json as they belong.

    rows: of the embedding; None: the vocabulary, padded. config: laid over the architecture's small config.
    """
    import torch
    import transformers

    source = folder_of(name)
    folder.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file() and file.name != "config.json":
            shutil.copy(file, folder)
    words = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    added = {token["content"]: token["id"] for token in words["added_tokens"]}
    special = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    largest = max(*words["model"]["vocab"].values(), *added.values())
    ids = {f"{role}_id": added.get(_text(special.get(role))) for role in ("bos_token", "eos_token", "pad_token")}
    made = transformers.AutoConfig.from_pretrained(source / "tiny")
    made.update({"vocab_size": rows or -(-(largest + 1) // PADDED) * PADDED, **ids, **config})
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(made)
    table = model.get_input_embeddings()
    if table.padding_idx is not None:
        torch.nn.init.normal_(table.weight.data[table.padding_idx], std=0.02)  # zeros in a new model, where padding is also the end
    model.save_pretrained(folder)
    _write_ends(folder, ids, [added[text] for text in ENDS.get(name, ())])
    return folder


def _write_ends(folder: Path, ids: dict[str, int | None], ends: Sequence[int]) -> None:
    stops = list(ends) or ids["eos_token_id"]
    generation = {"bos_token_id": ids["bos_token_id"], "eos_token_id": stops, "pad_token_id": ids["pad_token_id"]}
    (folder / "generation_config.json").write_text(json.dumps({key: value for key, value in generation.items() if value is not None}))


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)
