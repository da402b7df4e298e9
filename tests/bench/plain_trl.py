"""The same training as a tuitune run in plain TRL: `python plain_trl.py RUN` prints the losses. Imports nothing of tuitune.

Takes the model, data and arguments from the run's ledger (effective.json); `user`/`assistant` columns become a conversational
prompt and completion.
"""

import json
import sys
from dataclasses import fields
from pathlib import Path

import datasets
import peft
import torch
import transformers
import trl

run = Path(sys.argv[1])
ledger = json.loads((run / "effective.json").read_text())["values"]
value = {(entry["section"], entry["key"]): entry["value"] for entry in ledger}


def conversation(row: dict, columns: dict) -> dict:
    turns = [{"role": role, "content": row[columns[role]]} for role in ("user", "assistant")]
    return {"prompt": turns[:1], "completion": turns[1:]}


def load(split: str) -> datasets.Dataset:
    (source,) = value["dataset", split]
    rows = [json.loads(line) for line in Path(source["path"]).read_text().splitlines()][: source.get("max_rows")]
    return datasets.Dataset.from_list([conversation(row, source["columns"]) for row in rows])


def section(name: str, config: type) -> dict:
    changed = {entry["key"]: entry["value"] for entry in ledger if entry["section"] == name and entry["source"] != "default"}
    return {key: item for key, item in changed.items() if key in {field.name for field in fields(config)}}


arguments = section("training", trl.SFTConfig) | {"output_dir": "/tmp/plain-trl", "save_strategy": "no", "eval_strategy": "no"}
arguments.pop("eval_steps", None)
arguments.pop("padding_free", None)  # rows that tuitune joined are padded here: the same losses
tokenizer = transformers.AutoTokenizer.from_pretrained(value["model", "name_or_path"])
dtype = getattr(torch, value["model", "dtype"])
model = transformers.AutoModelForCausalLM.from_pretrained(value["model", "name_or_path"], dtype=dtype, attn_implementation="sdpa")
trainer = trl.SFTTrainer(
    model=model,
    args=trl.SFTConfig(**arguments),
    train_dataset=load("train"),
    processing_class=tokenizer,
    peft_config=peft.LoraConfig(**section("peft", peft.LoraConfig)),
)
trainer.train()
print(json.dumps([entry["loss"] for entry in trainer.state.log_history if "loss" in entry]))
