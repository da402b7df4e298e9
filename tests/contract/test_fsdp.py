"""A model spread over two processes (FSDP2 by accelerate, gloo, on the CPU) under a real hub: the losses of one process, checkpoints that
resume, every order on both ranks."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.living_hub import until
from tests.support.runs import new_run
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
STEPS = 7  # of which the losses are compared


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


def of_one_process(folder: Path, model: Path) -> list[float]:
    """The losses of one process with the same rows in each update: twice as many in a micro-batch."""
    alone = folder / "alone"
    alone.mkdir()
    write_rows(alone / "train.jsonl")
    (alone / "recipe.yaml").write_text(recipe(model, {}, per_device_train_batch_size=4))
    return train_steps(alone / "recipe.yaml", STEPS).each("loss")


def test_a_spread_model_learns_as_a_whole_one_survives_a_kill_and_takes_orders(
    start: Callable[[str], TwoRanks], tiny_model: Path, tmp_path: Path
) -> None:
    two = start(recipe(tiny_model, {"strategy": "fsdp"}, per_device_train_batch_size=2))
    until(lambda: any(record["complete"] for record in two.records("checkpoint")), 120)
    os.kill(two.workers()[1], signal.SIGKILL)
    two.hub.wait(120)
    assert read_manifest(two.run).state == "failed"

    two.start_hub()
    until(lambda: any(record["step"] >= STEPS and record["src"] == "trainer-2" for record in two.records("metrics")), 180)
    assert two.records("seam")[0]["step"] in (4, 8, 12), "from the checkpoint that both had written"
    answers = [
        two.order("pause"),
        two.order("set", key="learning_rate", value=2e-3, kind="hold"),
        two.order("save"),
        two.order("resume"),
        two.order("evaluate"),
        two.order("sample", prompt="the cat"),
        two.order("reshape", per_device_train_batch_size=1),
        two.order("stop"),
    ]
    assert [answer["s"] for answer in answers] == ["applied"] * 5 + ["failed"] * 2 + ["applied"]
    assert "spread over the ranks" in answers[5]["error"]
    assert "sharded" in answers[6]["error"]
    first, second = two.end()
    assert first == second
    assert (first["fsdp"], first["rate"][0]) == (True, 2e-3)
    assert two.records("hello")[-1]["strategy"] == "fsdp"

    expected = of_one_process(tmp_path, tiny_model)
    for attempt in ("trainer-1", "trainer-2"):
        losses = {record["step"]: record["loss"] for record in two.records("metrics") if record["src"] == attempt}
        compared = [step for step in losses if step <= STEPS]
        assert [losses[step] for step in compared] == pytest.approx([expected[step - 1] for step in compared], rel=1e-5)
    assert two.records("metrics")[0]["step"] == 1
    saved = _weights(two.run.adapter)
    assert "lm_head.weight" not in saved, "a tied weight is written once"
    assert saved["model.embed_tokens.weight"] == [448, 64], "whole, not a shard of it"


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
