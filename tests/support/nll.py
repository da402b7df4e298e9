"""`python -m tests.support.nll MODEL ADAPTER FILE.jsonl COUNT`: what an adapter does to held-out rows, without tuitune's trainer.

For each of COUNT question/answer rows: mean NLL of the answer's tokens under the base model and under the adapter (through peft and the
model's own chat template). Prints the two means and the paired 95 % interval of the difference.
"""

import json
import statistics
import sys
from itertools import islice
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(model_path: str, adapter: str, data: Path, count: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32), adapter).eval()
    base, tuned = [], []
    with data.open() as file, torch.no_grad():
        for line in islice(file, count):
            row = json.loads(line)
            prompt = [{"role": "user", "content": row["question"]}]
            full = [*prompt, {"role": "assistant", "content": row["answer"]}]
            start = len(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"])
            ids = torch.tensor([tokenizer.apply_chat_template(full, return_dict=True)["input_ids"]])
            labels = ids.clone()
            labels[:, :start] = -100
            tuned.append(model(input_ids=ids, labels=labels).loss.item())
            with model.disable_adapter():
                base.append(model(input_ids=ids, labels=labels).loss.item())
    differences = [after - before for before, after in zip(base, tuned)]
    mean = statistics.mean(differences)
    half = 1.96 * statistics.stdev(differences) / len(differences) ** 0.5
    result = {
        "rows": len(base),
        "base": statistics.mean(base),
        "adapter": statistics.mean(tuned),
        "difference": mean,
        "interval": [mean - half, mean + half],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
