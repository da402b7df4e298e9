"""Stands in for llama.cpp's convert_hf_to_gguf.py where it is not installed: the same command line, a real GGUF of a llama-shaped model.

    python gguf_converter.py MODEL --outfile FILE --outtype f16|bf16|f32|q8_0

Variables spoil the result: TUITUNE_TEST_GGUF=template (another template), stop (no stop token), weights (a layer doubled), fail (an error).
"""

import argparse
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v"}
NAMES |= {"o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--outfile", type=Path)
    parser.add_argument("--outtype")
    args = parser.parse_args()
    fault = os.environ.get("TUITUNE_TEST_GGUF", "")
    if fault == "fail":
        raise SystemExit("Model ZorkForCausalLM is not supported")
    config = json.loads((args.model / "config.json").read_text())
    writer = gguf.GGUFWriter(args.outfile, "llama")
    _settings(writer, config)
    _vocabulary(writer, args.model, config, fault)
    for name, tensor in _tensors(args.model / "model.safetensors"):
        spoilt = fault == "weights" and "layers.0.mlp.down_proj" in name
        _tensor(writer, name, tensor * (2 if spoilt else 1), args.outtype, config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(file: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The bfloat16 tensors of a file as float32."""
    data = file.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            halves = np.frombuffer(data[start + begin : start + end], dtype="<u2").astype("<u4") << 16
            yield name, halves.view("<f4").reshape(entry["shape"])


def _settings(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])


def _vocabulary(writer: gguf.GGUFWriter, model: Path, config: dict[str, Any], fault: str) -> None:
    words = json.loads((model / "tokenizer.json").read_text())
    special = json.loads((model / "tokenizer_config.json").read_text())
    added = {token["content"]: token["id"] for token in words["added_tokens"]}
    by_id = {number: text for text, number in (words["model"]["vocab"] | added).items()}
    rows = config["vocab_size"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([by_id.get(number, f"[PAD{number}]") for number in range(rows)])
    writer.add_token_types([3 if number in added.values() else 1 if number in by_id else 5 for number in range(rows)])
    writer.add_token_merges(["t h"])
    if fault != "stop":
        writer.add_eos_token_id(added[special["eos_token"]])
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages }}" if fault == "template" else (model / "chat_template.jinja").read_text())


def _tensor(writer: gguf.GGUFWriter, name: str, data: np.ndarray, kind: str, config: dict[str, Any]) -> None:
    words = name.split(".")
    if words[1] == "layers":
        renamed = f"blk.{words[2]}.{NAMES[words[-2]]}.weight"
    else:
        renamed = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}.get(name, "output.weight")
    if words[-2] in ("q_proj", "k_proj"):  # llama.cpp's order of the rotated halves
        heads = config["num_attention_heads"] if words[-2] == "q_proj" else config["num_key_value_heads"]
        data = data.reshape(heads, 2, data.shape[0] // heads // 2, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)
    wanted = {"f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}.get(kind, "F32") if data.ndim > 1 else "F32"
    quantised = gguf.GGMLQuantizationType[wanted]
    writer.add_tensor(renamed, gguf.quants.quantize(data.astype(np.float32), quantised), raw_dtype=quantised)


if __name__ == "__main__":
    main()
