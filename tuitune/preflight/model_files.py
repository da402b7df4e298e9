"""A model folder's JSON files and safetensors headers, read without a library that loads weights.

Header format: 8 bytes little-endian length, then JSON {name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {…}}, then
the data (https://huggingface.co/docs/safetensors).
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from tuitune.errors import NotHere, UserError
from tuitune.text import printable

MOST_HEADER = 100_000_000  # bytes; the format's own limit
LFS = b"version https://git-lfs"
INPUTS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight", "tok_embeddings.weight")
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
# What tie_word_embeddings is when config.json does not say it: the default of transformers' config classes, as of 5.23.
TIED = frozenset(
    "bloom cohere cohere2 ernie4_5 ernie4_5_moe falcon gemma gemma2 gemma3 gemma3_text gemma3n gemma3n_text gpt2 gpt_bigcode gpt_neo "
    "jetmoe lfm2 mamba mpt opt recurrent_gemma smollm3 starcoder2 xglm".split()
)
UNTIED = frozenset(
    "apertus arcee bamba codegen dbrx deepseek_v2 deepseek_v3 exaone4 falcon_h1 glm glm4 glm4_moe gpt_neox gpt_oss gptj granite granitemoe "
    "granitemoehybrid helium internlm3 jamba llama llama4 llama4_text mamba2 ministral mistral mixtral nemotron nemotron_h olmo olmo2 "
    "olmo3 olmoe persimmon phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_5 qwen3_5_text qwen3_moe qwen3_next seed_oss stablelm".split()
)


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
    def added_tokens(self) -> list[tuple[int, str]]:
        """(id, text) of the added tokens of tokenizer.json, as they stand there, without reading the vocabulary, which takes long.

        NotHere when the file is damaged."""
        import msgspec  # 10 ms, which `tuitune plan` does without

        token = msgspec.defstruct("AddedToken", [("id", int), ("content", str)])
        file = msgspec.defstruct("TokenizerFile", [("added_tokens", list[token], [])])  # type: ignore[valid-type]
        try:
            found: Any = msgspec.json.decode((self.folder / "tokenizer.json").read_bytes(), type=file)
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            raise NotHere("tokenizer.json cannot be read, which loading the tokenizer tells") from error
        return [(token.id, token.content) for token in found.added_tokens]

    @cached_property
    def index(self) -> dict[str, Any] | None:
        return self.json("model.safetensors.index.json")

    @property
    def in_hub_cache(self) -> bool:
        """Whether files that are missing here are fetched when the model is loaded."""
        return self.folder.parent.name == "snapshots"

    @cached_property
    def weight_files(self) -> list[str]:
        """Names of the safetensors files that `from_pretrained` reads: the single one before the index."""
        if self.index is None or (self.folder / "model.safetensors").exists():
            return ["model.safetensors"]
        try:
            return sorted({str(name) for name in self.index["weight_map"].values()})
        except (KeyError, AttributeError, TypeError) as error:
            raise UserError(f"{printable(str(self.folder))}/model.safetensors.index.json has no weight_map; copy it again") from error

    @cached_property
    def headers(self) -> list[Header]:
        """Of every safetensors file that belongs to the model and is there; [] when none is.

        NotHere when the folder is the Hub's cache and the weights are still to be fetched.
        """
        found = [read_header(self.folder / name) for name in self.weight_files if (self.folder / name).exists()]
        if not found and self.in_hub_cache:
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
        return ending(self.tensors, "lm_head.weight", "embed_out.weight") or self.tensors.get("output.weight")

    @property
    def tied(self) -> bool | None:
        """Whether input and output embedding are one: by the config, else by its class's default; None for a class unknown here."""
        for config in (self.config, self.text_config):
            if isinstance(config.get("tie_word_embeddings"), bool):
                return bool(config["tie_word_embeddings"])
        kind = str(self.config.get("model_type"))
        return True if kind in TIED else False if kind in UNTIED else None

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder; None when it is not there."""
        path = self.folder / name
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            if is_lfs_pointer(path):
                raise UserError(f"{printable(str(path))} is a Git LFS pointer, not the file: run `git lfs pull`, or download it") from error
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
        return max((id for id, _ in ModelFiles(self.folder).added_tokens), default=None)


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
    return _cached_snapshot(name, str(section.get("revision") or "main"))


def _cached_snapshot(name: str, revision: str) -> Path | None:
    """A model's folder in the Hub's cache, by its documented layout (https://huggingface.co/docs/huggingface_hub/guides/manage-cache):
    huggingface_hub's own `try_to_load_from_cache` says the same, after 350 ms of imports."""
    from huggingface_hub import constants

    home = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    reference = home / "refs" / revision
    folder = home / "snapshots" / (reference.read_text() if reference.is_file() else revision)
    return folder if any((folder / file).is_file() for file in ("config.json", "adapter_config.json")) else None


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
    wrong = next((name for name, tensor in tensors.items() if tensor.end - tensor.begin != _bytes(tensor)), None)
    if wrong is not None or sum(tensor.end - tensor.begin for tensor in tensors.values()) != end - 8 - length:
        return Header(file, tensors, f"has a header whose sizes contradict each other ({printable(wrong or 'gaps')}): download it again")
    return Header(file, tensors)


def is_lfs_pointer(file: Path) -> bool:
    """Whether a file is what Git leaves where Git LFS has not fetched the real one."""
    try:
        with file.open("rb") as opened:
            return opened.read(len(LFS)) == LFS
    except OSError:
        return False


def _bytes(tensor: Tensor) -> int:
    """What a tensor of this shape takes; as it stands for types of less than a byte and others that are not known here."""
    return SIZES[tensor.dtype] * prod(tensor.shape) if tensor.dtype in SIZES else tensor.end - tensor.begin


def _tensor(name: str, entry: Mapping[str, Any], file: Path, data: int) -> Tensor:
    begin, end = entry["data_offsets"]
    return Tensor(name, str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), file, data + int(begin), data + int(end))
