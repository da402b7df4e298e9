"""Recorded peaks of real runs on a GPU (tests/support/recorded/vram-measured-h200.jsonl), and the settings that each of them had."""

import json
from pathlib import Path
from typing import Any

from tests.support.model_shapes import CONFIGS
from tuitune.memory.families import read_shape
from tuitune.memory.settings import Settings
from tuitune.memory.shape import Shape

FILE = Path(__file__).parent / "recorded" / "vram-measured-h200.jsonl"
METHODS = {"full": False, "lora": True, "qlora": True}


def rows() -> list[dict[str, Any]]:
    """The recorded runs, figures in MiB."""
    return [json.loads(line) for line in FILE.read_text().splitlines()]


def settings_of(row: dict[str, Any]) -> Settings:
    """A row's own settings. TRL casts the adapters of a 4-bit base to bfloat16 and leaves others in float32 ("lora_dtype": "auto")."""
    quantised = row["method"] == "qlora"
    adapter = {"auto": 2 if quantised else 4, "float32": 4, "bfloat16": 2}[row["lora_dtype"]]
    return Settings(
        length=row["S"],
        batch=row["B"],
        accumulation=row["gas"],
        task=row["task"],
        lora=METHODS[row["method"]],
        weights="nf4 double" if quantised else row["wdtype"],
        rank=row["r"],
        targets="all-linear" if row["targets"] == "all" else ("q_proj", "v_proj"),
        dropout=row["dropout"],
        adapter_bytes=adapter,
        optimizer=row["optim"],
        checkpoint_every=row["ckpt"],
        packed=bool(row["pack"]),
        padded=row["ragged"],
        attention=row["attn"],
        loss="fused" if row["engine"] == "trl" else "full",
        scored=row["valid"],
        reference="shared" if row["task"] == "dpo" else "none",
        eval_batch=row["evalB"],
        expandable=False,
    )


def shape_of(row: dict[str, Any]) -> Shape:
    """The model it was."""
    return read_shape(CONFIGS[row["model"]])
