"""A job loads what a run has made by the trainer's rules: the same answers, its tokens and template, in 16 bits or in 4."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.support.short_training import new_run_beside, train_steps
from tests.support.tiny_model import make_tiny_model, write_rows
from tuitune.after.loading import load, quantisation
from tuitune.after.source import Source, base_of, find_source
from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory
from tuitune.trainer.checkpoints import mark_complete

RECIPE = """\
name: test
task: sft
model: {{name_or_path: model}}
{more}
dataset:
  train:
    - {{path: rows.jsonl, columns: {{user: question, assistant: answer}}}}
training: {{learning_rate: 1.0e-2, per_device_train_batch_size: 4, max_length: 64, max_steps: 2}}
launch: {{gpus: cpu}}
"""


class Trained:
    """A run whose result is in its directory as the trainer leaves it, and the model that was trained."""

    def __init__(self, folder: Path, more: str) -> None:
        folder.mkdir()
        make_tiny_model(folder / "model")
        write_rows(folder / "rows.jsonl", 16)
        (folder / "recipe.yaml").write_text(RECIPE.format(more=more))
        self.trainer: Any = train_steps(folder / "recipe.yaml").trainer
        self.run: RunDirectory = new_run_beside(folder / "recipe.yaml")
        self.workspace = folder / "work"
        (self.workspace / "model").symlink_to(folder / "model")

    def save(self, folder: Path) -> Path:
        self.trainer.save_model(str(folder))
        self.trainer.processing_class.save_pretrained(str(folder))
        return folder

    @property
    def source(self) -> Source:
        return find_source(str(self.run.path), self.workspace)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A LoRA run that has taught the model a new token, with a template of its own."""
    folder = tmp_path_factory.mktemp("adapter") / "it"
    trained = Trained(folder, "peft: {r: 4, target_modules: all-linear}\ntokenizer: {add_special_tokens: ['<think>']}")
    trained.save(trained.run.adapter)
    return trained


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A full fine-tuning that has written one checkpoint."""
    trained = Trained(tmp_path_factory.mktemp("full") / "it", "")
    mark_complete(trained.save(trained.run.checkpoints / "checkpoint-2"), 2)
    return trained


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([[1, 20, 30, 40]])).logits
    return found


def test_an_adapter_answers_as_it_did_in_its_training(adapter: Trained) -> None:
    model, tokenizer = load(adapter.source, adapter=True, four_bit=False)
    assert not model.training
    adapter.trainer.model.eval()
    torch.testing.assert_close(logits(model), logits(adapter.trainer.model), atol=1e-5, rtol=0)
    assert len(tokenizer("<think>", add_special_tokens=False)["input_ids"]) == 1, "the tokenizer that was saved with it"
    assert tokenizer.chat_template
    with model.disable_adapter():
        alone, _ = load(adapter.source, adapter=False, four_bit=False)
        torch.testing.assert_close(logits(model)[..., :400], logits(alone)[..., :400], atol=1e-5, rtol=0)


def test_the_base_is_the_model_as_it_came(adapter: Trained) -> None:
    model, tokenizer = load(base_of(adapter.source), adapter=True, four_bit=False)
    assert len(tokenizer("<think>", add_special_tokens=False)["input_ids"]) > 1
    assert not hasattr(model, "peft_config")


def test_a_checkpoint_of_full_fine_tuning_is_a_model(full: Trained) -> None:
    model, _ = load(full.source, adapter=True, four_bit=False)
    full.trainer.model.eval()
    torch.testing.assert_close(logits(model), logits(full.trainer.model), atol=1e-5, rtol=0)
    before, _ = load(base_of(full.source), adapter=True, four_bit=False)
    assert not torch.allclose(logits(model), logits(before), atol=1e-3)


def test_the_base_can_be_in_4_bits_and_in_another_type(adapter: Trained) -> None:
    model, _ = load(adapter.source, adapter=True, four_bit=True)
    names = {type(module).__name__ for module in model.modules()}
    assert "Linear4bit" in names
    assert torch.isfinite(logits(model)).all()
    model, _ = load(adapter.source, adapter=True, four_bit=False, dtype="bfloat16")
    assert logits(model).dtype == torch.bfloat16


def test_what_is_damaged_or_missing_is_a_sentence(adapter: Trained, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a folder nor to be had"):
        load(Source("x", "nobody/nothing", None, None, None, None, "model", False), adapter=True, four_bit=False)
    make_tiny_model(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(UserError, match="damaged or cut off"):
        load(find_source(str(tmp_path / "m"), tmp_path), adapter=True, four_bit=False)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA device"):
            load(adapter.source, adapter=True, four_bit=False, device="cuda")


@pytest.mark.parametrize(
    ("written", "four", "eight", "kind"),
    [
        ("quantization: {load_in_4bit: true, bnb_4bit_quant_type: fp4}", True, False, "fp4"),
        ("quantization: {load_in_8bit: true}", False, True, "fp4"),  # bitsandbytes' default, which 8 bits do not use
        ("", True, False, "nf4"),
    ],
)
def test_a_quantised_base_is_what_it_was_in_training(tmp_path: Path, written: str, four: bool, eight: bool, kind: str) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(more=f"{written}\npeft: {{r: 4}}"))
    make_tiny_model(tmp_path / "model")
    run = new_run_beside(tmp_path / "recipe.yaml")
    run.adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (run.adapter / name).write_text("{}")
    found = quantisation(find_source(str(run.path), tmp_path), "bfloat16")
    assert (found.load_in_4bit, found.load_in_8bit, found.bnb_4bit_quant_type) == (four, eight, kind)


def test_a_checkpoint_that_fits_a_changed_base_is_refused(tmp_path: Path) -> None:
    """PiSSA takes part of the base into the adapter: without the adapter that base is no base to compare with."""
    trained = Trained(tmp_path / "pissa", "peft: {r: 4, target_modules: all-linear, init_lora_weights: pissa}")
    mark_complete(trained.save(trained.run.checkpoints / "checkpoint-2"), 2)
    with pytest.raises(UserError, match="take the result of the run"):
        load(trained.source, adapter=True, four_bit=False)


def test_a_job_on_a_shared_card_runs_out_of_memory_itself_before_the_training_does(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tuitune.after.__main__ import _keep_to_room
    from tuitune.memory.settings import Device

    kept: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80 << 30))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", kept.append)
    _keep_to_room(None)
    assert kept == [], "a card of its own has no limit"
    _keep_to_room(str((20 << 30) + Device().context))
    _keep_to_room("0")
    assert kept == [0.25, 0.0]
