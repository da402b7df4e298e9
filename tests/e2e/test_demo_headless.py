"""The demo without a terminal, on a tiny model: it trains through hub and trainer and prints what the training changed."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.runs import ONE_THREAD, ROOT
from tests.support.tiny_model import write_rows

RECIPE = """name: demo
task: sft
model: {{name_or_path: {model}, dtype: float32}}
peft: {{r: 8, lora_alpha: 16, lora_dropout: 0.0, target_modules: all-linear}}
dataset:
  train: [{{path: train.jsonl, columns: {{user: question, assistant: answer}}}}]
  eval: [{{path: test.jsonl, columns: {{user: question, assistant: answer}}}}]
training: {{max_steps: 12, per_device_train_batch_size: 4, learning_rate: 1.0e-2, max_length: 64, logging_steps: 1, save_strategy: 'no',
  eval_strategy: steps, eval_steps: 12, eval_on_start: true}}
launch: {{gpus: cpu}}
"""


def demo(folder: Path, recipe: str) -> subprocess.CompletedProcess[str]:

    (folder / "demo.yaml").write_text(recipe)
    code = (
        "import sys; from pathlib import Path; from tuitune.demo.headless import run_headless; from tuitune.errors import UserError\n"
        "try: sys.exit(run_headless(Path(sys.argv[1])))\n"
        "except UserError as error: sys.exit(f'tuitune: {error}')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **ONE_THREAD}
    return subprocess.run(
        [sys.executable, "-c", code, str(folder / "demo.yaml")],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def test_it_prints_losses_answers_before_and_after_and_the_adapter(tiny_model: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", 48)
    write_rows(tmp_path / "test.jsonl", 8)
    done = demo(tmp_path, RECIPE.format(model=tiny_model))
    assert done.returncode == 0, done.stderr
    trained = re.search(r"loss (\d+\.\d+) → (\d+\.\d+) on the training rows", done.stdout)
    unseen = re.search(r"loss (\d+\.\d+) → (\d+\.\d+) on 8 rows it has not seen", done.stdout)
    assert trained is not None
    assert unseen is not None
    for pair in (trained, unseen):
        before, after = map(float, pair.groups())
        assert after < before
    assert done.stdout.count("    before  ") == done.stdout.count("    after   ") == 3
    adapter = re.search(r"The adapter: (.+)", done.stdout)
    assert adapter is not None
    assert (Path(adapter[1]) / "adapter_model.safetensors").is_file()


def test_what_cannot_train_is_refused_before_a_run_is_made(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", 4)
    write_rows(tmp_path / "test.jsonl", 4)
    done = demo(tmp_path, RECIPE.format(model=tmp_path / "no-model"))
    assert done.returncode == 1
    assert re.search(r" error .*the model folder .* does not exist", done.stdout)
    assert re.fullmatch(r"tuitune: nothing was started: \S+demo\.yaml has \d errors?; .*\n", done.stderr)
    assert not (tmp_path / "runs").exists()
