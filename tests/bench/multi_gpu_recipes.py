"""The runs of tests/bench/multi_gpu.py: what each mode trains, at the sizes of the GPUs or tiny ones for two processes on the CPU."""

import fcntl
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.model_shapes import CONFIGS
from tests.support.random_weights import save_random_weights
from tests.support.tiny_model import WORDS, make_tiny_model

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": "bfloat16"}
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
SHAPES = {"1.5b": "qwen2.5-1.5b", "8b": "llama3.1-8b"}
WATCHDOG_S = 45  # seconds after which NCCL gives a collective up in the mode that pauses for longer


@dataclass(frozen=True)
class Mode:
    """`shape`: of the model. `base`: also trained on one GPU, for the speed-up. `pauses`: for longer than NCCL's watchdog waits."""

    name: str
    shape: str
    strategy: str
    task: str = "sft"
    sections: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    base: bool = False
    pauses: bool = False


MODES = {
    mode.name: mode
    for mode in (
        Mode("qlora-ddp", "1.5b", "ddp", sections={"quantization": NF4, "peft": LORA}, base=True, pauses=True),
        Mode("lora-fsdp", "8b", "fsdp", sections={"peft": LORA}),
        Mode("full-fsdp", "1.5b", "fsdp", training={"learning_rate": 1e-5}),
        Mode("dpo-ddp", "1.5b", "ddp", task="dpo", sections={"peft": LORA}),
        Mode("qlora-fsdp", "8b", "fsdp", sections={"quantization": NF4, "peft": LORA}),
    )
}
ON_GPUS: dict[str, dict[str, Any]] = {
    "sft": {"per_device_train_batch_size": 8, "max_length": 2048, "packing": True, "packing_strategy": "bfd_split"},
    "dpo": {"per_device_train_batch_size": 8, "max_length": 512},
}
ON_CPU: dict[str, Any] = {"per_device_train_batch_size": 2, "max_length": 64}


def recipe(mode: Mode, model: Path, data: Path, gpus: int | str) -> str:
    """The mode's recipe as text (JSON is YAML). gpus: of `launch:`; "cpu" makes everything small."""
    cpu = gpus == "cpu"
    columns = {"user": "question", "assistant": "answer"} if mode.task == "sft" else {"prompt": "q", "chosen": "good", "rejected": "bad"}
    source = {"path": str(data / f"{mode.task}.jsonl"), "columns": columns}
    training = {
        "max_steps": 100_000,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "gradient_accumulation_steps": 2,
        "save_strategy": "no",
        "seed": 1,
        **(ON_CPU if cpu else ON_GPUS[mode.task]),
        **({} if cpu else {"activation_checkpointing": True}),
        **({"ddp_timeout": WATCHDOG_S} if mode.pauses and not cpu else {}),
        **mode.training,
    }
    return json.dumps(
        {
            "name": mode.name,
            "task": mode.task,
            "model": {"name_or_path": str(model), **({"dtype": "float32"} if cpu and "quantization" not in mode.sections else {})},
            "dataset": {"train": [source], "eval": [{**source, "max_rows": 16}]},
            "launch": {"gpus": gpus, **({} if gpus == 1 else {"strategy": mode.strategy})},
            "training": training,
            **mode.sections,
        }
    )


def make_model(shape: str, folder: Path, *, cpu: bool) -> Path:
    """A model with random weights and a small real tokenizer, made once, by whoever asks first; tiny for the CPU."""
    target = folder / ("tiny" if cpu else shape)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / "made").exists():
            make_tiny_model(target)
            if not cpu:
                (target / "model.safetensors").unlink()
                ids = {"pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 8192}
                save_random_weights({**CONFIGS[SHAPES[shape]], **ids}, target)
            (target / "made").touch()
    return target


def write_data(folder: Path, *, cpu: bool) -> None:
    """sft.jsonl and dpo.jsonl: answers of random words and lengths, the same for every call."""
    dice = random.Random(1)
    rows, longest = (64, 8) if cpu else (6_000, 240)

    def words() -> str:
        return " ".join(dice.choices(WORDS, k=dice.randint(longest // 4, longest)))

    folder.mkdir(parents=True, exist_ok=True)
    sft = [{"question": words(), "answer": words()} for _ in range(rows)]
    dpo = [{"q": words(), "good": words(), "bad": words()} for _ in range(rows // 2)]
    for name, found in (("sft", sft), ("dpo", dpo)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
