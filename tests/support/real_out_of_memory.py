"""`python -m tests.support.real_out_of_memory FOLDER`: the same training twice, once with too little memory, in a process of its own.

Linux refuses the process what goes beyond its address space (RLIMIT_AS), and torch's allocator raises. Prints one line of JSON: the largest
difference between weights, and what was told.
"""

import gc
import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from tests.contract.test_control import build
from tests.support.tiny_model import make_tiny_model, write_rows
from tuitune.trainer.split_batch import SplitMemory, training_step

MORE = 60 << 20  # bytes beyond what the process has when its first step begins
RECIPE = """\
task: sft
model: {{name_or_path: {model}, dtype: float32}}
peft: {{r: 8, lora_alpha: 16, target_modules: all-linear}}
dataset:
  train: [{{path: train.jsonl, columns: {{user: question, assistant: answer}}}}]
launch: {{gpus: cpu}}
training: {{max_steps: 3, learning_rate: 2.0e-4, logging_steps: 1, per_device_train_batch_size: 256, gradient_accumulation_steps: 2,
  max_length: 64, save_strategy: 'no'}}
"""


def address_space() -> int:
    """Bytes of this process's address space."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
    return int(line.split()[1]) * 1024


def train(folder: Path, limited: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The trained weights, and the `oom` events."""
    trainer, told = build(folder, RECIPE.format(model=folder / "model"))[0].trainer, []
    memory, plain = SplitMemory(lambda **fields: told.append(fields)), trainer.training_step

    def step(model: Any, inputs: Any, items: Any = None) -> Any:
        if limited and memory.micro == 0:
            gc.collect()
            resource.setrlimit(resource.RLIMIT_AS, (address_space() + MORE, resource.RLIM_INFINITY))
        return training_step(trainer, plain, model, inputs, items, memory)

    trainer.training_step = step
    try:
        trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}, told


def main(folder: Path) -> None:
    """Print the result."""
    torch.set_num_threads(1)
    make_tiny_model(folder / "model")
    write_rows(folder / "train.jsonl", 1536)
    (whole, _), (split, told) = train(folder, limited=False), train(folder, limited=True)
    difference = max((whole[name] - split[name]).abs().max().item() for name in whole)
    print(json.dumps({"difference": difference, "told": told}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
