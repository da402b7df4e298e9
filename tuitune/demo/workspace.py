"""The demo workspace: a folder with data, a recipe and the model it names, ready to open or to train."""

import sys
from importlib.resources import files
from pathlib import Path

from tuitune.demo.model import demo_model
from tuitune.errors import UserError
from tuitune.files import write_atomically
from tuitune.text import printable

RECIPE = """\
# The demo: SmolLM2-135M-Instruct learns to answer like a ship's log ("Captain's log: … Fair winds!").
# Card: none needed (three to four minutes on two CPU cores, seconds on any GPU). Memory: 2 GB.
# Launch: F5 in the workbench, or  tuitune train demo.yaml

name: demo
task: sft

model:
  name_or_path: {model}

peft:                                # LoRA: 1.6 % of the parameters are trained, the model itself stays as it is
  r: 8
  lora_alpha: 16
  target_modules: all-linear

dataset:                             # question and answer become a conversation through the chat template
  train:
    - {{path: data/train.jsonl, columns: {{user: question, assistant: answer}}}}
  eval:
    - {{path: data/test.jsonl, columns: {{user: question, assistant: answer}}}}

training:
  max_steps: 40
  learning_rate: 1.0e-3              # high, because the run is short
  lr_scheduler_type: cosine
  warmup_steps: 4
  per_device_train_batch_size: 4
  max_length: 256                    # tokens a row; the longest here has some 90
  activation_checkpointing: false    # memory is no concern at this size, time is
  logging_steps: 1
  eval_strategy: steps
  eval_steps: 40
  eval_on_start: true                # the base model's loss on the same rows, to compare with
  save_strategy: "no"                # the adapter is written at the end
"""


def make_demo(folder: Path) -> Path:
    """The demo's recipe in `folder`, which is made when it is missing; what is in it already stays. UserError when it cannot be made."""
    model = demo_model(_say)
    recipe = folder / "demo.yaml"
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for name in ("train.jsonl", "test.jsonl"):
            if not (folder / "data" / name).exists():
                write_atomically(folder / "data" / name, (files("tuitune.demo") / "data" / name).read_bytes())
        if not recipe.exists():
            write_atomically(recipe, RECIPE.format(model=model))
    except OSError as error:
        where = printable(str(folder))
        raise UserError(f"{where}: the demo cannot be written there ({error.strerror}); name another folder: tuitune demo DIR") from error
    return recipe.resolve()


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()
