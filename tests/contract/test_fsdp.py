"""A model spread over two processes (FSDP2 by accelerate, gloo, on the CPU) under a real hub: the losses of one process, checkpoints that
resume, every order on both ranks."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import ROOT, new_run
from tests.support.short_training import train_steps
from tests.support.tiny_model import write_rows
from tests.support.two_ranks import TwoRanks
from tuitune.recipe.ledger import read_ledger
from tuitune.runs.manifest import read_manifest

pytest.importorskip("transformers")

SETTINGS = {
    "max_steps": 5000,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "gradient_accumulation_steps": 2,
    "max_length": 64,
    "save_strategy": "steps",
    "save_steps": 4,
    "save_total_limit": 2,
}
STEPS = 8  # of which the losses are compared


def recipe(model: Path, launch: dict[str, Any], sections: dict[str, Any] | None = None, **training: Any) -> str:
    source = {"path": "train.jsonl", "columns": {"user": "question", "assistant": "answer"}}
    return json.dumps(
        {
            "task": "sft",
            "model": {"name_or_path": str(model), "dtype": "float32"},
            "dataset": {"train": [source], "eval": [{**source, "max_rows": 4}]},
            "launch": {"gpus": "cpu", **launch},
            "training": {**SETTINGS, **training},
            **(sections or {}),
        }
    )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], TwoRanks]]:
    """Starts runs on two processes; nothing of them is left."""
    write_rows(tmp_path / "train.jsonl")
    started: list[TwoRanks] = []

    def start(text: str) -> TwoRanks:
        started.append(TwoRanks(new_run(tmp_path, text)))
        return started[-1]

    yield start
    for one in started:
        one.close()


def of_one_process(folder: Path, text: str) -> list[float]:
    """The losses of one process with the same rows in each update: twice as many in a micro-batch."""
    folder.mkdir()
    wanted = json.loads(text)
    wanted["launch"] = {"gpus": "cpu"}
    wanted["training"]["per_device_train_batch_size"] *= 2
    (folder / "recipe.yaml").write_text(json.dumps(wanted))
    return train_steps(folder / "recipe.yaml", STEPS).each("loss")


@pytest.mark.timeout(600)
def test_a_spread_model_learns_as_a_whole_one_survives_a_kill_and_takes_orders(tmp_path: Path) -> None:
    """The bench that is meant for several GPUs, in the mode that spreads all there is: what it checks is in tests/bench/multi_gpu.py."""
    work, out = tmp_path / "work", tmp_path / "multi.json"
    words = ["--cpu", "--only", "full-fsdp", "--work", str(work), "--out", str(out), "--seconds", "500"]
    ended = subprocess.run([sys.executable, "-m", "tests.bench.multi_gpu", *words], cwd=ROOT, capture_output=True, text=True, timeout=570)
    found = json.loads(out.read_text())["modes"]["full-fsdp"]
    assert ended.returncode == 0, {key: found.get(key) for key in ("error", "checks")}
    assert (found["world"], found["strategy"], found["passed"]) == (2, "fsdp", True)
    refused = {order["op"]: order["error"] for order in found["orders"] if order["s"] == "failed"}
    assert list(refused) == ["sample"]
    assert "spread over the ranks" in refused["sample"]

    (run,) = (work / "full-fsdp-all" / "runs").iterdir()
    expected = of_one_process(tmp_path / "alone", (run / "recipe.yaml").read_text())
    compared = {step + 1: loss for step, loss in enumerate(found["all_gpus"]["losses"])}
    compared |= {int(step): loss for step, loss in found["resumed"].items()}
    compared = {step: loss for step, loss in compared.items() if step <= STEPS}
    assert len(compared) >= 6, "of both attempts"
    assert list(compared.values()) == pytest.approx([expected[step - 1] for step in compared], rel=1e-5)
    checkpoint = _weights(next((run / "checkpoints").glob("checkpoint-*")))
    assert "lm_head.weight" not in checkpoint, "a tied weight is written once"
    assert checkpoint["model.embed_tokens.weight"] == [448, 64], "whole, not a shard of it"


@pytest.mark.timeout(400)
def test_an_adapter_on_spread_4_bit_weights_is_saved_alone(start: Callable[[str], TwoRanks], tmp_path: Path) -> None:
    """With a head of its own, which TRL's loss reads without calling it."""
    model = _untied(tmp_path / "untied")
    sections = {
        "model": {"name_or_path": str(model), "dtype": "bfloat16"},
        "quantization": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        "peft": {"r": 8, "target_modules": "all-linear", "lora_dropout": 0.1},
    }
    two = start(recipe(model, {"strategy": "fsdp"}, sections, max_steps=4, bf16=True))
    first, second = two.end()
    assert first == second
    assert (first["step"], read_manifest(two.run).state) == (4, "done")
    assert [record["complete"] for record in two.records("checkpoint")] == [True]
    assert set(_weights(two.run.adapter)) == set(_weights(two.run.checkpoints / "checkpoint-4"))
    assert all("lora_" in name for name in _weights(two.run.adapter))
    stored = next(entry for entry in read_ledger(two.run.effective) if entry.key == "bnb_4bit_quant_storage")
    assert (stored.value, stored.source) == ("bfloat16", "adjusted")


def test_accelerate_keeps_sums_in_float32_as_told() -> None:
    """It overwrites neither the policy, nor does transformers drop it on the way (TrainingArguments.fsdp_plugin_args)."""
    import torch
    from accelerate.utils import FullyShardedDataParallelPlugin
    from trl import SFTConfig

    from tuitune.trainer.strategy import FSDP2, settle_precision

    config = SFTConfig(output_dir="unused", use_cpu=True, bf16=True, fsdp=True, fsdp_config=dict(FSDP2), report_to="none")
    settle_precision(config)
    plugin = FullyShardedDataParallelPlugin(**config.fsdp_plugin_args)
    plugin.set_mixed_precision("bf16")
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (torch.bfloat16, torch.float32, None)
    assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.cpu_ram_efficient_loading) == (2, True, False)
    assert "FULL_STATE_DICT" in str(plugin.state_dict_type), "torch reads the other kind's index as a pickle"


def _untied(folder: Path) -> Path:
    from transformers import AutoConfig, AutoModelForCausalLM

    from tests.support.tiny_model import make_tiny_model

    make_tiny_model(folder)
    config = AutoConfig.from_pretrained(folder, tie_word_embeddings=False)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def _weights(folder: Path) -> dict[str, list[int]]:
    """Name → shape of what the folder's safetensors hold."""
    from safetensors import safe_open

    found = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            found |= {name: list(opened.get_slice(name).get_shape()) for name in list(opened.keys())}
    return found
