"""Real training of a tiny random model, as `python -m tuitune.trainer` on a run directory: what is promised to whoever reads the run."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.runs import ONE_THREAD, ROOT, Trained, new_run, start_trainer, train
from tests.support.tiny_model import write_rows
from tuitune.bus.journal import JournalTail
from tuitune.errors import UserError
from tuitune.recipe.ledger import read_ledger
from tuitune.runs.checkpoints import is_complete

LORA = "peft: {r: 8, lora_alpha: 16, lora_dropout: 0.0, target_modules: all-linear}\n"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
NF4 = "quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: true, bnb_4bit_compute_dtype: bfloat16}\n"


def recipe(
    model: Path, extra: str = "", training: str = "max_steps: 6", task: str = "sft", columns: str = "{user: question, assistant: answer}"
) -> str:
    run = f"{training}, per_device_train_batch_size: 4, learning_rate: 1.0e-3, max_length: 64, logging_steps: 1, save_strategy: 'no'"
    return (
        f"name: test\ntask: {task}\nmodel: {{name_or_path: {model}, dtype: float32}}\n{extra}"
        f"dataset:\n  train: [{{path: train.jsonl, columns: {columns}}}]\n"
        f"training: {{{run}}}\n"
    )


def value(run: Trained, section: str, key: str) -> object:
    return next(entry.value for entry in read_ledger(run.run.effective) if (entry.section, entry.key) == (section, key))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_rows(tmp_path / "train.jsonl")
    return tmp_path


def loads_outside_tuitune(model: Path, adapter: Path) -> None:
    """peft alone loads the adapter and it changes what the model says."""
    code = (
        "import sys, torch; from transformers import AutoModelForCausalLM; from peft import PeftModel;"
        "model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(sys.argv[1]), sys.argv[2]);"
        "ids = torch.arange(5, 15)[None]; with_adapter = model(ids).logits;\n"
        "with model.disable_adapter(): assert not torch.equal(model(ids).logits, with_adapter)"
    )
    subprocess.run([sys.executable, "-c", code, str(model), str(adapter)], check=True, timeout=120, cwd="/")


@pytest.fixture(scope="module")
def lora(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Six steps of LoRA, looked at by several tests."""
    folder = tmp_path_factory.mktemp("lora")
    write_rows(folder / "train.jsonl")
    return train(folder, recipe(tiny_model, LORA))


@pytest.mark.xdist_group("lora run")
def test_lora_leaves_a_journal_and_an_adapter_that_loads_outside_tuitune(tiny_model: Path, lora: Trained) -> None:
    assert lora.returncode == 0, lora.output
    assert [record["s"] for record in lora.of("state") if record["s"] != "loading"] == ["running", "saving", "running", "done"]
    result = lora.of("end")[0]["result"]
    assert (result["kind"], result["step"]) == ("adapter", 6)
    assert lora.of("data")[0]["rows"] == 48
    assert len(lora.of("data")[0]["sha256"]) == 64
    assert not lora.of("warning"), "nothing was cut, nothing is missing, and nothing of this recipe is on the Hub"
    assert not list(lora.run.adapter.glob("*.bin"))
    assert not lora.run.adapter.with_name(".adapter").exists()
    loads_outside_tuitune(tiny_model, lora.run.adapter)


@pytest.mark.xdist_group("lora run")
def test_lora_has_the_losses_of_plain_trl(lora: Trained) -> None:
    plain = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "bench" / "plain_trl.py"), str(lora.run.path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **ONE_THREAD},
    )
    assert plain.returncode == 0, plain.stderr
    expected = json.loads(plain.stdout.splitlines()[-1])
    assert len(expected) == 6
    assert lora.losses == pytest.approx(expected, abs=1e-5)


@pytest.mark.xdist_group("lora run")
def test_the_ledger_says_where_every_value_came_from(lora: Trained) -> None:
    entries = {(entry.section, entry.key): entry for entry in read_ledger(lora.run.effective)}
    assert entries["training", "learning_rate"].source == "recipe"
    assert entries["training", "learning_rate"].value == 1e-3
    assert entries["training", "learning_rate"].line == 7
    assert entries["training", "weight_decay"].source == "default"
    assert entries["training", "report_to"].source == "adjusted"
    assert entries["training", "report_to"].why
    assert entries["peft", "r"].value == 8
    assert (entries["launch", "gpus"].value, entries["launch", "gpus"].source) == ("auto", "default")
    assert entries["launch", "adapter_dtype"].source == "adjusted"
    assert len(entries["tokenizer", "chat_template_sha256"].value) == 64
    assert entries["tokenizer", "model_max_length"].value == 256
    assert entries["tokenizer", "padding_side"].value
    assert ("tokenizer", "training_template_sha256") in entries
    assert not any(section == "quantization" for section, _ in entries)
    assert len(lora.of("data")[0]["trainable_sha256"]) == 64
    assert entries["training", "per_device_eval_batch_size"].value == 4


def test_qlora_nf4_trains_with_adapters_in_float32(tiny_model: Path, workspace: Path) -> None:
    done = train(workspace, recipe(tiny_model, NF4 + LORA, training="max_steps: 3"))
    assert done.returncode == 0, done.output
    assert len(done.losses) == 3
    assert value(done, "launch", "adapter_dtype") == "float32"
    entries = {entry.key: entry for entry in read_ledger(done.run.effective) if entry.section == "quantization"}
    assert (entries["bnb_4bit_quant_type"].value, entries["bnb_4bit_quant_type"].source) == ("nf4", "recipe")
    assert (entries["llm_int8_threshold"].value, entries["llm_int8_threshold"].source) == (6.0, "default")
    assert (done.run.adapter / "adapter_model.safetensors").exists()


def test_full_fine_tuning_saves_a_whole_model(tiny_model: Path, workspace: Path) -> None:
    done = train(workspace, recipe(tiny_model, training="max_steps: 3"))
    assert done.returncode == 0, done.output
    assert done.of("end")[0]["result"]["kind"] == "model"
    entries = {(entry.section, entry.key): entry for entry in read_ledger(done.run.effective)}
    assert ("launch", "adapter_dtype") not in entries, "there is no adapter"
    assert entries["model", "trained_dtype"].value == "float32"
    assert not any(entry.source == "recipe" and entry.line is None for entry in entries.values() if entry.key not in ("name", "task"))
    assert (done.run.adapter / "model.safetensors").exists()


def test_sigterm_saves_at_the_next_boundary_and_ends_well(tiny_model: Path, workspace: Path) -> None:
    run = new_run(workspace, recipe(tiny_model, LORA, training="max_steps: 5000"))
    process = start_trainer(run)
    tail, seen = JournalTail(run.journal), []
    deadline = time.monotonic() + 60
    while not any(record["ev"] == "metrics" for record in seen) and time.monotonic() < deadline:
        seen += tail.poll()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    done = Trained(run, process.returncode, output)
    assert done.returncode == 0, output
    assert done.of("state")[-1]["s"] == "stopped"
    saved = done.of("checkpoint")[-1]
    assert saved["complete"]
    assert is_complete(Path(saved["path"]))
    assert (run.adapter / "adapter_model.safetensors").exists()


def refusal(folder: Path, text: str) -> str:
    """The sentence with which building the trainer of this recipe is refused."""
    from tuitune.recipe.recipe import load_recipe
    from tuitune.trainer.build import build

    run = new_run(folder, text)
    with pytest.raises(UserError) as refused:
        build(load_recipe(run.recipe, base=folder), run)
    return str(refused.value)


def fails_with(done: Trained, *words: str) -> None:
    """One sentence for the user, in the journal and on stderr, and no traceback."""
    assert done.returncode == 1
    error = done.of("end")[-1]["error"]
    for word in words:
        assert word in error
    assert "Traceback" not in done.output
    assert done.of("state")[-1]["s"] == "failed"


def test_a_broken_row_is_named_by_file_and_line(tiny_model: Path, workspace: Path) -> None:
    with (workspace / "train.jsonl").open("a") as file:
        file.write('{"question": "x", \n')
    assert "train.jsonl:49" in refusal(workspace, recipe(tiny_model, LORA))


def test_an_adapter_that_is_nowhere_is_a_sentence(tiny_model: Path, workspace: Path) -> None:
    text = recipe(tiny_model).replace("dtype: float32", f"dtype: float32, adapter: {workspace}/gone")
    assert "no adapter in" in refusal(workspace, text)


def test_a_folder_that_is_no_run_is_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tuitune.trainer", str(tmp_path)], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert done.returncode == 1
    assert "it is no run" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_that_is_nowhere_is_a_sentence(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "does not exist" in refusal(workspace, recipe(workspace / "no-model", LORA))
    assert "Hub" in refusal(workspace, recipe(Path("acme/nothing"), LORA))


def test_without_a_network_the_hub_is_not_waited_for(workspace: Path) -> None:
    """The client would retry for half a minute; the trainer tells that the Hub is out of reach and looks into the cache only."""
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "", **dict.fromkeys(PROXIES, "")}
    done = train(workspace, recipe(Path("acme/nothing"), LORA), **nowhere)
    fails_with(done, "acme/nothing", "cache")
    assert "127.0.0.1:9 cannot be reached" in done.of("warning")[0]["text"]
    assert "Retrying" not in done.output


def test_cut_off_weights_are_a_sentence(tiny_model: Path, workspace: Path) -> None:
    broken = workspace / "broken"
    broken.mkdir()
    for path in tiny_model.iterdir():
        data = path.read_bytes()
        (broken / path.name).write_bytes(data[: len(data) // 2] if path.suffix == ".safetensors" else data)
    assert "damaged or cut off" in refusal(workspace, recipe(broken, LORA))


def test_pickled_weights_are_refused(tiny_model: Path, workspace: Path) -> None:
    pickled = workspace / "pickled"
    pickled.mkdir()
    for path in tiny_model.iterdir():
        if path.suffix != ".safetensors":
            (pickled / path.name).write_bytes(path.read_bytes())
    (pickled / "pytorch_model.bin").write_bytes(b"anything")
    assert "safetensors" in refusal(workspace, recipe(pickled, LORA))


def test_rows_that_are_all_cut_away_are_a_sentence(tiny_model: Path, workspace: Path) -> None:
    assert "none of the 48 rows" in refusal(workspace, recipe(tiny_model, LORA).replace("max_length: 64", "max_length: 2"))


def test_evaluation_without_data_names_the_line(tiny_model: Path, workspace: Path) -> None:
    assert "recipe.yaml:7" in refusal(workspace, recipe(tiny_model, LORA, training="max_steps: 2, eval_strategy: steps, eval_steps: 1"))


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(tiny_model: Path, workspace: Path) -> None:
    """Files may grow to 40 KB only, as on a disk that is full: checkpoints fail and are told, the last save fails with its sentence."""
    run = new_run(workspace, recipe(tiny_model, LORA, training="max_steps: 4, save_steps: 2").replace("'no'", "steps"))
    code = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); sys.argv = ['trainer', sys.argv[1]];"
        "runpy.run_module('tuitune.trainer', run_name='__main__')"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )
    done = Trained(run, process.returncode, process.stdout + process.stderr)
    assert len(done.losses) == 4, done.output
    assert [record["complete"] for record in done.of("checkpoint")] == [False, False]
    fails_with(done, "cannot be written")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 40_000


def test_a_run_that_goes_back_to_its_best_checkpoint_says_of_which_step_its_result_is(tiny_model: Path, workspace: Path) -> None:
    """The loss falls, and by greater_is_better the first evaluation counts as the best."""
    written = recipe(
        tiny_model, LORA, "max_steps: 6, eval_strategy: steps, eval_steps: 2, load_best_model_at_end: true, greater_is_better: true"
    )
    written = written.replace("save_strategy: 'no'", "save_strategy: steps, save_steps: 2, save_total_limit: 5")
    written = written.replace("training:", "  eval: [{path: train.jsonl, columns: {user: question, assistant: answer}}]\ntraining:")
    done = train(workspace, written)
    assert done.returncode == 0, done.output
    losses = {record["step"]: record["metrics"]["eval_loss"] for record in done.of("eval")}
    best = max(losses, key=lambda step: losses[step])
    assert done.of("end")[0]["result"]["step"] == best < 6
    weights = [folder / "adapter_model.safetensors" for folder in (done.run.adapter, done.run.checkpoints / f"checkpoint-{best}")]
    ours, theirs = map(load_file, weights)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
