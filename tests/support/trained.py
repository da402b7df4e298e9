"""A run of two real steps on the tiny model, its result in the run directory as the trainer leaves it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.short_training import new_run_beside, train_steps
from tests.support.tiny_model import make_tiny_model, write_rows
from tuitune.recipe.ledger import LedgerEntry, write_ledger
from tuitune.runs.directory import RunDirectory

RECIPE = """\
name: test
task: {task}
model: {{name_or_path: {model}}}
{more}
dataset:
  train:
    - {{path: {rows}, columns: {columns}}}
training: {{learning_rate: 5.0e-2, per_device_train_batch_size: 4, max_length: 64, max_steps: 2}}
launch: {{gpus: cpu}}
"""
LORA = "peft: {r: 4, target_modules: all-linear}\n"
NF4 = "quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_compute_dtype: bfloat16}\n"


@dataclass
class Trained:
    """`workspace` is the folder that has `runs`."""

    trainer: Any
    run: RunDirectory
    workspace: Path


def train_reward(folder: Path, more: str = LORA, model: Path | None = None) -> Trained:
    """A reward model: trained to score each row's answer above the same letters backwards."""
    return train_and_save(folder, more, model, task="reward", columns="{prompt: question, chosen: answer, rejected: worse}")


def train_and_save(
    folder: Path, more: str = LORA, model: Path | None = None, task: str = "sft", columns: str = "{user: question, assistant: answer}"
) -> Trained:
    """Train in `folder`, which is made; `model`: one to begin with instead of the tiny one in 16 bits."""
    import torch
    from transformers import AutoModelForCausalLM

    folder.mkdir(parents=True)
    if model is None:
        model = make_tiny_model(folder / "model")
        AutoModelForCausalLM.from_pretrained(model).to(torch.bfloat16).save_pretrained(model)
    rows = write_rows(folder / "rows.jsonl", 24)
    pairs = [row | {"worse": row["answer"][::-1]} for row in map(json.loads, rows.read_text().splitlines())]
    rows.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    (folder / "recipe.yaml").write_text(RECIPE.format(more=more, model=model, rows=rows, task=task, columns=columns))
    trainer = train_steps(folder / "recipe.yaml").trainer
    run = new_run_beside(folder / "recipe.yaml")
    trainer.save_model(str(run.adapter))
    trainer.processing_class.save_pretrained(str(run.adapter))
    write_ledger(run.effective, [LedgerEntry("recipe", "task", task, "recipe"), LedgerEntry("model", "name_or_path", str(model), "recipe")])
    return Trained(trainer, run, folder / "work")
