"""Model folders read without a library that loads weights."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tuitune.errors import UserError
from tuitune.preflight.finding import NotHere
from tuitune.preflight.model_files import ModelFiles, read_header


def safetensors(file: Path, header: dict[str, Any], data: int) -> Path:
    """A file with this header and `data` bytes after it."""
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))
    return file


def entry(begin: int, end: int, *shape: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_a_whole_file_has_no_fault(tmp_path: Path) -> None:
    header = read_header(safetensors(tmp_path / "a", {"__metadata__": {}, "x": entry(0, 24, 2, 3), "y": entry(24, 28, 1)}, 28))
    assert header.fault == ""
    assert header.tensors["x"].shape == (2, 3)


@pytest.mark.parametrize(
    ("header", "data", "fault"),
    [
        ({"x": entry(0, 24, 2, 3)}, 20, "cut off"),
        ({"x": entry(0, 24, 2, 3)}, 28, "promises"),
        ({"x": entry(0, 24, 2, 2)}, 24, "contradict each other (x)"),
        ({"x": entry(0, 4, 1), "y": entry(8, 12, 1)}, 12, "contradict each other (gaps)"),
        ({"x": {"dtype": "F32"}}, 0, "damaged"),
    ],
)
def test_a_header_that_does_not_fit_its_file_is_a_fault(header: dict[str, Any], data: int, fault: str, tmp_path: Path) -> None:
    assert fault in read_header(safetensors(tmp_path / "a", header, data)).fault


def test_a_type_of_half_bytes_is_taken_as_it_stands(tmp_path: Path) -> None:
    assert read_header(safetensors(tmp_path / "a", {"x": entry(0, 3, 2, 3, dtype="F4")}, 3)).fault == ""


def folder(path: Path, tensors: dict[str, tuple[int, ...]], **config: Any) -> ModelFiles:
    """A model folder with float32 tensors of these shapes."""
    at, header = 0, {}
    for name, shape in tensors.items():
        size = 4 * shape[0] * shape[1]
        header[name] = entry(at, at + size, *shape)
        at += size
    safetensors(path / "model.safetensors", header, at)
    (path / "config.json").write_text(json.dumps(config))
    return ModelFiles(path)


def test_a_layers_own_output_is_not_taken_for_the_head(tmp_path: Path) -> None:
    model = folder(tmp_path, {"encoder.layer.0.attention.output.weight": (4, 4), "embed_tokens.weight": (8, 4)})
    assert model.output_embedding is None
    assert model.input_embedding is not None


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({"model_type": "llama"}, False),
        ({"model_type": "gemma2"}, True),
        ({"model_type": "nobody_knows"}, None),
        ({"model_type": "llama", "tie_word_embeddings": True}, True),
        ({"model_type": "gemma3", "text_config": {"tie_word_embeddings": False}}, False),
    ],
)
def test_tying_is_the_configs_word_or_its_classs_default(config: dict[str, Any], tied: bool | None, tmp_path: Path) -> None:
    assert folder(tmp_path, {}, **config).tied is tied


def test_a_single_file_goes_before_an_index(tmp_path: Path) -> None:
    model = folder(tmp_path, {})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "model-1.safetensors"}}))
    assert model.weight_files == ["model.safetensors"]
    (tmp_path / "model.safetensors").unlink()
    assert ModelFiles(tmp_path).weight_files == ["model-1.safetensors"]


def test_an_index_without_its_map_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UserError, match="has no weight_map"):
        _ = ModelFiles(tmp_path).weight_files


def test_weights_that_the_cache_still_lacks_are_no_fault(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    with pytest.raises(NotHere):
        _ = ModelFiles(snapshot).headers


def test_a_pointer_in_place_of_a_json_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(UserError, match="git lfs pull"):
        _ = ModelFiles(tmp_path).config
