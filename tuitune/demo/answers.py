"""`python -m tuitune.demo.answers MODEL ADAPTER QUESTION …`: each question answered without and with the adapter, as JSON.

Prints [{"question", "before", "after"}]. Greedy, so that the same model always says the same.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

MAX_NEW_TOKENS = 60


def main(model_path: str, adapter: Path, questions: Sequence[str]) -> None:
    """Load the model once and answer with the adapter off and on."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    base = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, use_safetensors=True).to(device)
    model = PeftModel.from_pretrained(base, adapter).eval()
    answers = []
    for question in questions:
        with model.disable_adapter():
            before = answer(model, tokenizer, question)
        answers.append({"question": question, "before": before, "after": answer(model, tokenizer, question)})
    json.dump(answers, sys.stdout, ensure_ascii=False)


def answer(model: Any, tokenizer: Any, question: str) -> str:
    """The model's greedy answer to one user turn, through its own chat template."""
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    asked = asked.to(model.device)
    made = model.generate(**asked, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    return str(tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
