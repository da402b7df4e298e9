"""A model folder's JSON files and safetensors headers, read without a library that loads weights.

Header format: 8 bytes little-endian length, then JSON {name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {…}}, then
the data (https://huggingface.co/docs/safetensors).
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tuitune.errors import UserError
from tuitune.preflight.finding import NotHere
from tuitune.text import printable

MOST_HEADER = 100_000_000  # bytes; the format's own limit
LFS = b"version https://git-lfs"
INPUTS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight", "tok_embeddings.weight")
OUTPUTS = ("lm_head.weight", "embed_out.weight", "output.weight")


@dataclass(frozen=True)
class Tensor:
    """One tensor of a header: dtype as safetensors writes it (BF16, F32 …), `begin` and `end` in bytes from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """A safetensors file. `fault`: what is wrong with it, in words; "" when it is whole."""

    file: Path
    tensors: dict[str, Tensor]
    fault: str = ""


@dataclass
class ModelFiles:
    """A folder as `from_pretrained` reads it. JSON files that are not there are None; broken ones raise UserError."""

    folder: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json. UserError when there is none."""
        found = self.json("config.json")
        if found is None:
            raise UserError(f"{printable(str(self.folder))} has no config.json; name a model folder or a Hub id in model.name_or_path")
        return found

    @cached_property
    def text_config(self) -> dict[str, Any]:
        """The part of the config that describes the language model (multimodal ones nest it)."""
        nested = next((self.config[name] for name in ("text_config", "llm_config") if isinstance(self.config.get(name), dict)), None)
        return nested or self.config

    @cached_property
    def generation_config(self) -> dict[str, Any] | None:
        return self.json("generation_config.json")

    @cached_property
    def tokenizer_config(self) -> dict[str, Any] | None:
        return self.json("tokenizer_config.json")

    @cached_property
    def tokenizer(self) -> dict[str, Any] | None:
        """tokenizer.json as it stands."""
        return self.json("tokenizer.json")

    @cached_property
    def index(self) -> dict[str, Any] | None:
        return self.json("model.safetensors.index.json")

    @cached_property
    def headers(self) -> list[Header]:
        """Of every safetensors file that belongs to the model and is there; [] when none is.

        NotHere when the folder is the Hub's cache and the weights are still to be fetched.
        """
        names = sorted(set(self.index["weight_map"].values())) if self.index else ["model.safetensors"]
        found = [read_header(self.folder / name) for name in names if (self.folder / name).exists()]
        if not found and self.folder.parent.name == "snapshots":
            raise NotHere("the weights are still to be fetched from the Hub")
        return found

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the model by name."""
        return {name: tensor for header in self.headers for name, tensor in header.tensors.items()}

    @cached_property
    def input_embedding(self) -> Tensor | None:
        """The input embedding: (rows, hidden). None when no tensor has one of the usual names."""
        return ending(self.tensors, *INPUTS)

    @cached_property
    def output_embedding(self) -> Tensor | None:
        """The output head, when it is a tensor of its own: (rows, hidden)."""
        return ending(self.tensors, *OUTPUTS)

    @property
    def tied(self) -> bool:
        """Whether input and output embedding are one, by the config (transformers' own default when it is silent: True)."""
        for config in (self.config, self.text_config):
            if isinstance(config.get("tie_word_embeddings"), bool):
                return bool(config["tie_word_embeddings"])
        return True

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder; None when it is not there."""
        path = self.folder / name
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{printable(str(path))} cannot be read ({printable(str(error), limit=200)}); copy it again") from error
        if not isinstance(found, dict):
            raise UserError(f"{printable(str(path))} is no JSON object; copy it again")
        return found


@dataclass
class AdapterFiles:
    """A peft adapter's folder."""

    folder: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """adapter_config.json. UserError when there is none."""
        found = ModelFiles(self.folder).json("adapter_config.json")
        if found is None:
            raise UserError(f"there is no adapter in {printable(str(self.folder))} (no adapter_config.json); name a run's `adapter` folder")
        return found

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the adapter; {} when there is no safetensors file."""
        file = self.folder / "adapter_model.safetensors"
        return read_header(file).tensors if file.exists() else {}

    @cached_property
    def input_embedding(self) -> Tensor | None:
        """The whole input embedding, when the adapter brings one: (rows, hidden)."""
        return ending(self.tensors, *INPUTS)

    @cached_property
    def last_added_id(self) -> int | None:
        """The largest id among the added tokens of the tokenizer that was saved with the adapter."""
        tokenizer = ModelFiles(self.folder).tokenizer or {}
        return max((token["id"] for token in tokenizer.get("added_tokens") or [] if isinstance(token.get("id"), int)), default=None)


def ending(tensors: Mapping[str, Tensor], *endings: str) -> Tensor | None:
    """The first matrix whose name is one of `endings`, below whatever modules."""
    for wanted in endings:
        for name, tensor in tensors.items():
            if (name == wanted or name.endswith(f".{wanted}")) and len(tensor.shape) == 2:
                return tensor
    return None


def locate_model(section: Mapping[str, Any]) -> Path | None:
    """The folder of a model on this box: as named, or in the Hub's cache at the recipe's revision; None when it is not here.

    UserError for a path that is no folder.
    """
    name = str(section["name_or_path"])
    if Path(name).is_absolute():
        if not Path(name).is_dir():
            raise UserError(f"the model folder {printable(name)} does not exist")
        return Path(name)
    from huggingface_hub import try_to_load_from_cache

    for file in ("config.json", "adapter_config.json"):
        found = try_to_load_from_cache(name, file, revision=section.get("revision") or "main")
        if isinstance(found, str):
            return Path(found).parent
    return None


def read_header(file: Path) -> Header:
    """A safetensors file's header; a damaged file is one with a `fault`, not an exception."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            start = opened.read(8)
            if (start + opened.read(200)).startswith(LFS):
                return Header(file, {}, "is a Git LFS pointer, not the weights: run `git lfs pull`, or download the file")
            opened.seek(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= MOST_HEADER or 8 + length > size:
                return Header(file, {}, f"has no safetensors header ({size:,} bytes): download it again")
            document = json.loads(opened.read(length))
        tensors = {name: _tensor(name, entry, file, 8 + length) for name, entry in document.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return Header(file, {}, f"has a damaged safetensors header ({printable(str(error), limit=120)}): download it again")
    end = max((tensor.end for tensor in tensors.values()), default=8 + length)
    if end != size:
        return Header(file, tensors, f"has {size:,} bytes where its header promises {end:,}: the download was cut off, fetch it again")
    return Header(file, tensors)


def _tensor(name: str, entry: Mapping[str, Any], file: Path, data: int) -> Tensor:
    begin, end = entry["data_offsets"]
    return Tensor(name, str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), file, data + int(begin), data + int(end))
