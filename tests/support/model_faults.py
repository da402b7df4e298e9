"""Changes to a copied model's files, for `plant(change=…)`: what goes wrong with tokenizers and weight files."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Change = Callable[[Path], object]


def all_of(*changes: Change) -> Change:
    """One change after the other."""

    def apply(model: Path) -> None:
        for change in changes:
            change(model)

    return apply


def in_json(file: str, **values: Any) -> Change:
    """Values of a JSON file; None takes the key out."""

    def apply(model: Path) -> None:
        document = json.loads((model / file).read_text())
        document.update(values)
        (model / file).write_text(json.dumps({key: value for key, value in document.items() if value is not None}))

    return apply


def tokenizer_config(**values: Any) -> Change:
    """Values of tokenizer_config.json."""
    return in_json("tokenizer_config.json", **values)


def configs(**values: Any) -> Change:
    """Values of config.json and generation_config.json."""
    return all_of(in_json("config.json", **values), in_json("generation_config.json", **values))


def rows(count: int) -> Change:
    """Embedding (and head) of so many rows, in the weights and in config.json."""

    def apply(model: Path) -> None:
        def resized(weights: dict[str, Any]) -> None:
            for name in ("model.embed_tokens.weight", "lm_head.weight"):
                if name in weights:
                    weights[name] = weights[name][:count].clone()

        weights(resized)(model)
        in_json("config.json", vocab_size=count)(model)

    return apply


def weights(change: Callable[[dict[str, Any]], object]) -> Change:
    """The tensors of model.safetensors, changed in place."""

    def apply(model: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(model / "model.safetensors")
        change(tensors)
        save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})

    return apply


def untied(model: Path) -> None:
    """A head of its own, unlike the input embedding."""

    def add_head(tensors: dict[str, Any]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].roll(1, 1).contiguous()

    weights(add_head)(model)
    in_json("config.json", tie_word_embeddings=False)(model)


def row_of(ids: Iterable[int], make: Callable[[Any], Any], tensor: str = "model.embed_tokens.weight") -> Change:
    """Rows of an embedding become what `make` gives for the whole of it."""

    def fill(tensors: dict[str, Any]) -> None:
        for id in ids:
            tensors[tensor][id] = make(tensors[tensor])

    return weights(fill)


def sharded(model: Path) -> None:
    """Two shards and an index instead of one file."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    where = {}
    for number, names in enumerate((list(tensors)[::2], list(tensors)[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, model / file, metadata={"format": "pt"})
        where |= dict.fromkeys(names, file)
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def adds_beginning(model: Path) -> None:
    """tokenizer.json puts bos before every text, as Llama-3.1's does; bos is <|endoftext|> here."""
    single = [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    tokens = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}
    processor = {"type": "TemplateProcessing", "single": single, "pair": [*single, *single[1:]], "special_tokens": tokens}
    in_json("tokenizer.json", post_processor=processor)(model)
    tokenizer_config(bos_token="<|endoftext|>")(model)
    configs(bos_token_id=0)(model)


def template(text: str) -> Change:
    """The model's chat template."""

    def apply(model: Path) -> None:
        (model / "chat_template.jinja").write_text(text)

    return apply


def without_template(model: Path) -> None:
    """A base model: no chat template."""
    (model / "chat_template.jinja").unlink()
