"""What TRL alone makes of a file of rows: the truth that `tuitune inspect` is held to. Imports nothing of tuitune.

    python -m tests.support.reference_rows MODEL FILE TASK COLUMNS TRAINING     (the last two as JSON) → {"sequences": …} or {"refused": …}

MODEL has tokenizer files and tiny/config.json (tests.support.real_tokenizers), or is a whole tiny model.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import transformers
import trl

Sequences = list[tuple[list[int], list[int]]]
OPTIONS = {"output_dir": "/tmp/reference-rows", "use_cpu": True, "bf16": False, "report_to": "none"}


def reference(model: Path, file: Path, task: str, columns: Mapping[str, str], training: Mapping[str, Any]) -> Sequences:
    """(ids, labels) of every sequence that is trained on, in the trainer's order. Raises what TRL raises."""
    rows = [_row(json.loads(line), columns) for line in file.read_text(encoding="utf-8").splitlines()]
    arguments = {
        "model": _model(model),
        "train_dataset": datasets.Dataset.from_list(rows, on_mixed_types="use_json"),  # as `datasets` advises for tool calls
        "processing_class": transformers.AutoTokenizer.from_pretrained(model),
    }
    if task == "sft":
        trained = trl.SFTTrainer(args=trl.SFTConfig(**OPTIONS, **training), **arguments).train_dataset
        return list(zip(trained["input_ids"], trained["labels"]))
    return _pairs(trl.DPOTrainer(ref_model=_model(model), args=trl.DPOConfig(**OPTIONS, **training), **arguments))


def _row(row: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    if "user" not in columns:
        return {target: row[source] for target, source in columns.items()}
    answer = {"role": "assistant", "content": row[columns["assistant"]]}
    if "reasoning" in columns and row[columns["reasoning"]]:
        answer["reasoning_content"] = row[columns["reasoning"]]
    return {"prompt": [{"role": "user", "content": row[columns["user"]]}], "completion": [answer]}


def _model(folder: Path) -> Any:
    if not (folder / "tiny").is_dir():
        return transformers.AutoModelForCausalLM.from_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder / "tiny"))


def _pairs(trainer: Any) -> Sequences:
    found = []
    for example in trainer.train_dataset:
        batch = trainer.data_collator([example])
        for ids, attended, inside in zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"]):
            kept = [(int(id), bool(learnt)) for id, seen, learnt in zip(ids, attended, inside) if seen]
            found.append(([id for id, _ in kept], [id if learnt else -100 for id, learnt in kept]))
    return found


def main() -> None:
    model, file, task, columns, training = sys.argv[1:]
    try:
        answer: dict[str, Any] = {"sequences": reference(Path(model), Path(file), task, json.loads(columns), json.loads(training))}
    except Exception as error:
        answer = {"refused": str(error), "type": type(error).__name__}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
