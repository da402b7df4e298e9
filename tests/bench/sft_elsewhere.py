"""The training of tests.bench.throughput without tuitune: plain TRL, or Unsloth (--unsloth, in its own site directory). One JSON line last.

    python sft_elsewhere.py '{"model": DIR, "data": FILE, "steps": 12, "four_bit": true, "training": {…SFTConfig…}}' [--unsloth]

Imports nothing of tuitune. `seconds` is of each optimizer step, `tokens` of each update without padding.
"""

import json
import sys
import time
from pathlib import Path

wish = json.loads(sys.argv[1])
if "--unsloth" in sys.argv:
    from unsloth import FastLanguageModel  # first: it patches the others

import datasets  # noqa: E402
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402

LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0}
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Watch(transformers.TrainerCallback):
    """When steps end."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.at.append(time.perf_counter())


def of_trl():
    kind = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    more = {}
    if wish["four_bit"]:
        more["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=kind
        )
    device = {"": 0} if torch.cuda.is_available() else None
    model = transformers.AutoModelForCausalLM.from_pretrained(
        wish["model"], dtype=kind, attn_implementation="sdpa", device_map=device, **more
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(wish["model"])
    return model, tokenizer, peft.LoraConfig(target_modules="all-linear", **LORA)


def of_unsloth():
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=wish["model"], max_seq_length=wish["training"]["max_length"], load_in_4bit=wish["four_bit"], dtype=torch.bfloat16
    )
    model = FastLanguageModel.get_peft_model(
        model, target_modules=LINEAR, bias="none", use_gradient_checkpointing="unsloth", random_state=1, **LORA
    )
    return model, tokenizer, None


rows = [json.loads(line) for line in Path(wish["data"]).read_text(encoding="utf-8").splitlines()]
chats = [
    {"prompt": [{"role": "user", "content": row["question"]}], "completion": [{"role": "assistant", "content": row["answer"]}]}
    for row in rows
]
model, tokenizer, adapter = of_unsloth() if "--unsloth" in sys.argv else of_trl()
arguments = {"output_dir": "/tmp/elsewhere", "save_strategy": "no", "report_to": "none", "logging_steps": 1, "disable_tqdm": True}
if not torch.cuda.is_available():
    arguments |= {"use_cpu": True, "bf16": False}
watch = Watch()
trainer = trl.SFTTrainer(
    model=model,
    args=trl.SFTConfig(max_steps=wish["steps"], **arguments, **wish["training"]),
    train_dataset=datasets.Dataset.from_list(chats),
    processing_class=tokenizer,
    peft_config=adapter,
    callbacks=[watch],
)
if torch.cuda.is_available():
    torch.cuda.reset_peak_memory_stats()
started = time.perf_counter()
trainer.train()
logs = [entry for entry in trainer.state.log_history if "loss" in entry]
seen = [entry.get("num_tokens", 0.0) for entry in logs]
found = {
    "seconds": [end - begin for begin, end in zip([started, *watch.at], watch.at)],
    "losses": [entry["loss"] for entry in logs],
    "tokens": [after - before for before, after in zip([0.0, *seen], seen)],
    "peak_allocated": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
    "adapter_dtype": sorted({str(p.dtype) for p in trainer.model.parameters() if p.requires_grad}),
}
print(json.dumps(found))
