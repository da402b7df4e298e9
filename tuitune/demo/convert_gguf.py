"""`python -m tuitune.demo.convert_gguf FILE.gguf FOLDER`: a GGUF model as a folder of bf16 safetensors, proven by a question."""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTION, ANSWER = "What is the capital of France?", "Paris"


def main(gguf: Path, target: Path) -> None:
    """Load through transformers' own GGUF reader, copy the weights into a model that never heard of quantisation, save, ask."""
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # it describes the file, not the weights any more
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    _check(model, tokenizer)
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def _check(model: torch.nn.Module, tokenizer: AutoTokenizer) -> None:
    """A wrong template or a wrong weight shows at once: the model no longer knows the capital of France."""
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    made = model.generate(**asked, max_new_tokens=16, do_sample=False)
    text = tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    if ANSWER not in text:
        raise SystemExit(f"the converted model answers {QUESTION!r} with {text!r}: the file or the installed transformers reads it wrongly")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
