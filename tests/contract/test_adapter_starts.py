"""Where an adapter begins: peft's ways to begin one, what a run leaves of them, and what preferences are measured against."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from tests.support.runs import new_run  # noqa: E402
from tests.support.steered import steer  # noqa: E402
from tests.support.tiny_model import write_rows  # noqa: E402
from tuitune.errors import UserError  # noqa: E402
from tuitune.recipe.recipe import load_recipe  # noqa: E402
from tuitune.runs.directory import RunDirectory  # noqa: E402

COLUMNS = {"sft": "{user: question, assistant: answer}", "dpo": "{prompt: question, chosen: answer, rejected: worse}"}
IDS = torch.arange(5, 25)[None]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    rows = [json.loads(line) for line in write_rows(tmp_path / "train.jsonl", 12).read_text().splitlines()]
    for row in rows:
        row["worse"] = row["answer"][::-1]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def recipe(model: Path, adapter: str, task: str = "sft", training: str = "", about_model: str = "") -> str:
    return (
        f"task: {task}\nmodel: {{name_or_path: {model}, dtype: float32{about_model}}}\n"
        + (f"peft: {{r: 4, lora_alpha: 8, target_modules: all-linear{adapter}}}\n" if not about_model else "")
        + f"dataset:\n  train: [{{path: train.jsonl, columns: {COLUMNS[task]}}}]\nlaunch: {{gpus: cpu}}\n"
        "training: {max_steps: 3, learning_rate: 5.0e-3, logging_steps: 1, per_device_train_batch_size: 4, max_length: 64, "
        f"save_strategy: steps, save_steps: 3{training}}}\n"
    )


def finished(folder: Path, text: str) -> tuple[Any, RunDirectory]:
    """Train as a run does and save its result; (trainer, run)."""
    from tuitune.trainer.__main__ import _save
    from tuitune.trainer.build import Built
    from tuitune.trainer.telemetry import Telemetry

    done = steer(folder, text)
    built = Built.__new__(Built)
    built.trainer = done.trainer
    telemetry = Telemetry(_Silent(), done.link)
    _save(built, done.run, telemetry)
    return done.trainer, done.run


class _Silent:
    def emit(self, ev: str, **fields: Any) -> None: ...


def logits(model: Any) -> Any:
    model.eval()
    with torch.no_grad():
        return model(IDS.to(model.device)).logits


def over_the_base(model: Path, adapter: Path) -> Any:
    return peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(model), adapter)


@pytest.mark.parametrize("start", ["pissa", "olora", "pissa_niter_4"])
def test_an_adapter_that_changes_the_base_is_left_as_one_for_the_base_on_disk(tiny_model: Path, workspace: Path, start: str) -> None:
    trainer, run = finished(workspace, recipe(tiny_model, f", init_lora_weights: {start}"))
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    trained = logits(over_the_base(tiny_model, run.adapter))
    with trainer.model.disable_adapter():
        assert (logits(trainer.model) - logits(base)).abs().max() > 1e-2, "the weights below it are changed"
    assert torch.allclose(trained, logits(trainer.model), atol=1e-5)
    assert not torch.allclose(trained, logits(base), atol=1e-3), "it has learnt something"
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (8, 16, True), "a plain LoRA adapter of twice the rank"
    merged = over_the_base(tiny_model, run.adapter).merge_and_unload()
    assert torch.allclose(logits(merged), trained, atol=1e-5)


def test_a_run_that_changes_the_base_goes_on_exactly(tiny_model: Path, workspace: Path) -> None:
    text = (
        recipe(tiny_model, ", init_lora_weights: pissa").replace("max_steps: 3", "max_steps: 4").replace("save_steps: 3", "save_steps: 2")
    )
    whole = steer(workspace, text)
    again = steer(workspace, text, resume=whole.checkpoint(2))
    assert again.each("loss") == pytest.approx(whole.each("loss")[2:], abs=1e-5)


def test_a_checkpoint_with_a_changed_base_is_no_start_for_another_run(tiny_model: Path, workspace: Path) -> None:
    done = steer(workspace, recipe(tiny_model, ", init_lora_weights: pissa"))
    with pytest.raises(UserError, match="fits a changed base only; name the `adapter` folder of its run"):
        steer(workspace, recipe(tiny_model, "", about_model=f", adapter: {done.checkpoint(3)}"))


@pytest.mark.parametrize("start", [", use_dora: true", ", use_rslora: true", ", init_lora_weights: gaussian"])
def test_ways_to_begin_that_leave_the_base_alone(tiny_model: Path, workspace: Path, start: str) -> None:
    trainer, run = finished(workspace, recipe(tiny_model, start))
    assert torch.allclose(logits(over_the_base(tiny_model, run.adapter)), logits(trainer.model), atol=1e-6)
    assert not (run.path / "adapter-as-it-began").exists()


@pytest.mark.parametrize(
    ("task", "section", "words"),
    [
        ("sft", "peft: {r: 4, init_lora_weights: eva}\n", "init_lora_weights eva is not built: it needs a pass over the data"),
        ("sft", "peft: {r: 4, init_lora_weights: loftq}\n", "the adapter would not fit the base that is on disk"),
        ("sft", "peft: {r: 4, init_lora_weights: pissa}\nquantization: {load_in_4bit: true}\n", "4 or 8 bits cannot do exactly"),
        ("sft", "peft: {r: 4, init_lora_weights: olora, use_dora: true}\n", "with use_dora cannot be saved as an adapter of the unchanged"),
        ("dpo", "peft: {r: 4, init_lora_weights: pissa}\n", "task dpo measures against the base by leaving the adapter out"),
    ],
)
def test_where_a_way_to_begin_cannot_be_right_it_is_refused(tiny_model: Path, workspace: Path, task: str, section: str, words: str) -> None:
    text = recipe(tiny_model, "", task).replace("peft: {r: 4, lora_alpha: 8, target_modules: all-linear}\n", section)
    with pytest.raises(UserError) as raised:
        load_recipe(new_run(workspace, text).recipe, base=workspace)
    assert words in str(raised.value)


@pytest.mark.parametrize("precomputed", [False, True])
def test_preferences_after_sft_are_measured_against_the_sft_model(tiny_model: Path, workspace: Path, precomputed: bool) -> None:
    """TRL 1.16 keeps a frozen copy of the adapter as `ref`; the base model without adapter would be another reference."""
    _, run = finished(workspace, recipe(tiny_model, ""))
    sft = over_the_base(tiny_model, run.adapter)
    training = ", precompute_ref_log_probs: true" if precomputed else ""
    trainer, after = finished(workspace, recipe(tiny_model, "", "dpo", training, about_model=f", adapter: {run.adapter}"))
    logs = [record for record in trainer.state.log_history if "loss" in record]
    assert logs[0]["loss"] == pytest.approx(math.log(2), abs=1e-6), "it begins at its reference"
    assert logs[-1]["rewards/margins"] != 0
    trainer.model.set_adapter("ref")
    assert torch.equal(logits(trainer.model), logits(sft)), "the reference is the SFT model, and does not learn along"
    trainer.model.set_adapter("default")
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    assert not torch.allclose(logits(sft), logits(base), atol=1e-3)
    assert not list(after.adapter.rglob("ref")), "the reference is no part of the result"
    assert torch.equal(logits(over_the_base(tiny_model, after.adapter)), logits(trainer.model))
    if precomputed:
        row = trainer.train_dataset[0]
        assert row["ref_chosen_logps"] == pytest.approx(_logp(sft, row["prompt_ids"], row["chosen_ids"]), abs=1e-3)
        assert row["ref_chosen_logps"] != pytest.approx(_logp(base, row["prompt_ids"], row["chosen_ids"]), abs=1e-3)


def _logp(model: Any, prompt: list[int], answer: list[int]) -> float:
    ids = torch.tensor([prompt + answer])
    model.eval()
    with torch.no_grad():
        logps = model(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
    return float(logps.gather(1, torch.tensor(answer)[:, None]).sum())


def test_a_new_adapter_is_measured_against_the_base_and_losses_can_be_mixed(tiny_model: Path, workspace: Path) -> None:
    trainer, _ = finished(workspace, recipe(tiny_model, "", "dpo", ", loss_type: [sigmoid, sft], loss_weights: [1.0, 0.0]"))
    logs = [record for record in trainer.state.log_history if "loss" in record]
    assert logs[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert list(trainer.model.peft_config) == ["default"]
    with trainer.model.disable_adapter():
        assert torch.equal(logits(trainer.model), logits(transformers.AutoModelForCausalLM.from_pretrained(tiny_model)))
