"""A small schema in the form that the exporter writes: enough fields of every kind, no torch."""

from typing import Any

import pytest

from tuitune.recipe.schema import FORMAT, Schema, from_json


def _field(kind: str, default: Any = None, doc: str = "", **more: Any) -> dict[str, Any]:
    return {"type": kind, "default": default, "doc": doc, **more}


TRAINING = {
    "output_dir": _field("str | null"),
    "num_train_epochs": _field("float", 3.0, "Total number of training epochs."),
    "max_steps": _field("int", -1),
    "learning_rate": _field("float", 5e-5, "The initial learning rate."),
    "per_device_train_batch_size": _field("int", 8),
    "per_device_eval_batch_size": _field("int", 8),
    "gradient_accumulation_steps": _field("int", 1),
    "lr_scheduler_type": _field("str", "linear", choices=["linear", "cosine", "constant"]),
    "lr_scheduler_kwargs": _field("dict | str | null"),
    "warmup_steps": _field("float", 0),
    "optim": _field("str", "adamw_torch_fused", choices=["adamw_torch", "adamw_torch_fused", "adamw_8bit", "sgd"]),
    "eval_strategy": _field("str", "no", choices=["no", "steps", "epoch"]),
    "eval_steps": _field("float | null"),
    "save_total_limit": _field("int | null"),
    "train_sampling_strategy": _field("str", "random", choices=["random", "sequential", "group_by_length"]),
    "report_to": _field("null | str | list[str]", "none"),
    "run_name": _field("str | null"),
    "resume_from_checkpoint": _field("str | null"),
    "bf16": _field("bool | null"),
    "fp16": _field("bool", False),
    "use_cpu": _field("bool", False),
    "seed": _field("int", 42),
    "activation_checkpointing": _field("bool | null"),
    "gradient_checkpointing": _field("bool | null"),
    "activation_checkpointing_kwargs": _field("dict | null"),
    "gradient_checkpointing_kwargs": _field("dict | null"),
    "ddp_backend": _field("str | null", choices=["nccl", "gloo"], open_choices=True),
    "trust_remote_code": _field("bool", False),
    "use_liger_kernel": _field("bool", False, deprecated="Deprecated: use something else."),
}
SFT = {
    "learning_rate": _field("float", 2e-5, "The initial learning rate."),
    "gradient_checkpointing": _field("bool", True),
    "max_length": _field("int | null", 1024),
    "packing": _field("bool", False),
    "packing_strategy": _field("str", "bfd", choices=["bfd", "bfd_split", "wrapped"]),
    "pad_to_multiple_of": _field("int | str | null", "auto"),
    "pad_token": _field("str | null"),
    "eos_token": _field("str | null"),
    "chat_template_path": _field("str | null"),
    "model_init_kwargs": _field("dict | null"),
}
DPO = {
    "max_length": _field("int | null", 1024),
    "beta": _field("float", 0.1),
    "loss_type": _field("str | list[str]", ["sigmoid"], choices=["sigmoid", "ipo", "hinge"]),
}
DOCUMENT = {
    "format": FORMAT,
    "versions": {"trl": "1.16.0", "transformers": "5.23.0", "peft": "0.21.2", "bitsandbytes": "0.50.2", "torch": "2.13.0"},
    "training": TRAINING,
    "tasks": {
        "sft": {"config": "SFTConfig", "experimental": False, "fields": SFT},
        "dpo": {"config": "DPOConfig", "experimental": False, "fields": DPO},
        "tpo": {"config": "TPOConfig", "experimental": True, "fields": {"tpo_alpha": _field("float", 1.0)}},
    },
    "peft": {
        "r": _field("int", 8, "Lora attention dimension."),
        "lora_alpha": _field("int", 8),
        "lora_dropout": _field("float", 0.0),
        "target_modules": _field("list[str] | str | null"),
        "bias": _field("str", "none", choices=["none", "all", "lora_only"]),
        "init_lora_weights": _field("bool | str", True, choices=["gaussian", "pissa", "pissa_niter_[number of iters]"]),
        "task_type": _field("str | null", choices=["CAUSAL_LM"]),
    },
    "quantization": {
        "load_in_4bit": _field("bool", False),
        "load_in_8bit": _field("bool", False),
        "bnb_4bit_quant_type": _field("str", "fp4", choices=["nf4", "fp4"]),
        "bnb_4bit_compute_dtype": _field("str | null", choices=["bfloat16", "float16", "float32"]),
        "llm_int8_skip_modules": _field("list[str] | null"),
    },
    "model": {"attn_implementation": _field("str | null", choices=["auto", "sdpa", "flash_attention_2"], open_choices=True)},
}

GOOD = """\
# every kind of section
name: gsm8k
task: sft
model:
  name_or_path: HuggingFaceTB/SmolLM2-135M-Instruct  # a Hub id
  dtype: bfloat16
quantization:
  load_in_4bit: true
  bnb_4bit_quant_type: nf4
peft: {r: 16, lora_alpha: 32, target_modules: all-linear}
tokenizer:
  pad_token: null
dataset:
  train:
    - {path: data/train.jsonl, columns: {user: question, assistant: answer}, weight: 2}
    - path: data/more.jsonl
      columns:
        messages: turns
  eval:
  - path: data/test.jsonl
    max_rows: 200
training:
  learning_rate: 2e-4     # YAML 1.2: a number
  eval_strategy: no       # YAML 1.2: a word
  max_length: 2048
launch: {gpus: auto, adapter_dtype: float32}
output:
  runs: runs
"""


# The same with what is valid and not built yet.
WISHFUL = GOOD.replace("launch: {gpus: auto", 'watch:\n  prompts: ["What is 2 + 2?"]\nlaunch: {gpus: auto, retry: {oom: 2}')


@pytest.fixture(scope="session")
def schema() -> Schema:
    return from_json(DOCUMENT)
