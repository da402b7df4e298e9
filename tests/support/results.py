"""A run that has ended, with an adapter of real files: the recorded ledger and journal, and safetensors of a few bytes."""

import json
import shutil
import struct
from pathlib import Path

from tuitune.runs.directory import RunDirectory

RECORDED = Path(__file__).parent / "recorded" / "captains-log-20261127-192416"
BASE = "/home/jane/models/SmolLM2-135M-Instruct"


def ended_run(workspace: Path) -> RunDirectory:
    """In `workspace`/runs; besides the adapter's own files there lies what must never be published."""
    run = RunDirectory(workspace / "runs" / RECORDED.name)
    shutil.copytree(RECORDED, run.path)
    manifest = json.loads(run.manifest.read_bytes())
    run.manifest.write_text(json.dumps(manifest | {"workspace": str(workspace), "recipe_path": str(workspace / "demo.yaml")}))
    make_adapter(run.adapter)
    return run


def make_adapter(folder: Path) -> Path:
    """An adapter as peft saves it, with a tokenizer's files; `training_args.bin`, `optimizer.pt` and a journal lie beside it."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": BASE, "r": 8, "lora_alpha": 16, "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))
    (folder / "adapter_model.safetensors").write_bytes(_safetensors("base_model.model.lora_A.weight", 4096))
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"the": 0, "hf_word": 1}}}')
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    for name in ("training_args.bin", "optimizer.pt", "trainer_state.json", "journal.jsonl"):
        (folder / name).write_text("not for others")
    return folder


def _safetensors(name: str, count: int) -> bytes:
    """A file with one float32 tensor."""
    header = json.dumps({name: {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}).encode()
    return struct.pack("<Q", len(header)) + header + struct.pack(f"<{count}f", *range(count))
