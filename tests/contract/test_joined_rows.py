"""`padding_free: auto`: the same rows, the same update, without padding."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.runs import new_run, train
from tests.support.tiny_model import make_tiny_model, write_rows
from tuitune.recipe.recipe import load_recipe
from tuitune.trainer.build import Built, build

RECIPE = """task: sft
model: {{name_or_path: {model}}}
{adapter}dataset: {{train: [{{path: {data}, columns: {{user: question, assistant: answer}}}}]}}
launch: {{gpus: cpu}}
training: {{max_steps: 3, learning_rate: 1.0e-3, per_device_train_batch_size: {batch}, gradient_accumulation_steps: {accumulation},
  max_length: 24, logging_steps: 1, save_strategy: 'no'{more}}}
"""
LORA = "peft: {r: 4, lora_alpha: 8, lora_dropout: 0.0, target_modules: all-linear}\n"


def built(folder: Path, batch: int = 4, accumulation: int = 2, adapter: str = LORA, more: str = "") -> Built:
    folder.mkdir()
    model, data = make_tiny_model(folder / "model"), write_rows(folder / "rows.jsonl")
    run = new_run(folder, RECIPE.format(model=model, data=data, batch=batch, accumulation=accumulation, adapter=adapter, more=more))
    return build(load_recipe(run.recipe, base=folder), run)


def losses(made: Built) -> list[float]:
    made.trainer.train()
    return [entry["loss"] for entry in made.trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("adapter", [LORA, ""], ids=["LoRA", "full"])
def test_the_losses_are_those_of_padded_rows(tmp_path: Path, adapter: str) -> None:
    """The update is the same however its rows lie: in float32 within 1e-5, also in one micro-batch instead of two."""
    padded = losses(built(tmp_path / "padded", adapter=adapter))
    joined = built(tmp_path / "joined", adapter=adapter, more=", padding_free: auto")
    assert joined.trainer.model.config._attn_implementation == "varlen"
    assert losses(joined) == pytest.approx(padded, abs=1e-5)
    at_once = built(tmp_path / "at_once", batch=8, accumulation=1, adapter=adapter, more=", padding_free: auto")
    assert losses(at_once) == pytest.approx(padded, abs=1e-5)


@pytest.mark.parametrize("said", ["packing: true, packing_strategy: bfd_split", "padding_free: true"])
def test_rows_that_trl_lays_behind_each_other_are_kept_apart_without_a_mask(tmp_path: Path, said: str) -> None:
    """The losses are those of sdpa with its mask."""
    found = {}
    for name, attention in (("ours", "auto"), ("sdpa", "sdpa")):
        (folder := tmp_path / name).mkdir()
        model, data = make_tiny_model(folder / "model"), write_rows(folder / "rows.jsonl")
        text = RECIPE.format(
            model=f"{model}, attn_implementation: {attention}", data=data, batch=4, accumulation=1, adapter=LORA, more=f", {said}"
        )
        run = new_run(folder, text.replace("max_length: 24", "max_length: null") if "padding_free" in said else text)
        made = build(load_recipe(run.recipe, base=folder), run)
        assert made.trainer.model.config._attn_implementation == ("varlen" if name == "ours" else "sdpa")
        found[name] = losses(made)
    assert found["ours"] == pytest.approx(found["sdpa"], abs=1e-5)


def test_the_loss_of_an_evaluation_is_that_of_padded_rows(tmp_path: Path) -> None:
    """Also where the last micro-batch is smaller: each is weighted as it was."""
    found = []
    for name, more in (("padded", ""), ("joined", ", padding_free: auto")):
        trainer = built(tmp_path / name, more=more).trainer
        trainer.args.per_device_eval_batch_size = 4
        found.append(trainer.evaluate(trainer.train_dataset.select(range(10)))["eval_loss"])
    assert found[1] == pytest.approx(found[0], abs=1e-6)


def test_rows_are_cut_to_max_length_and_nothing_is_padded(tmp_path: Path) -> None:
    made = built(tmp_path / "run", more=", padding_free: auto")
    rows = made.trainer.train_dataset["input_ids"]
    assert max(map(len, rows)) == 24
    batch: dict[str, Any] = next(iter(made.trainer.get_train_dataloader()))
    assert batch["input_ids"].shape == (1, int(batch["cu_seq_lens_q"][-1]))
    assert "attention_mask" not in batch
    assert not (batch["input_ids"] == made.trainer.processing_class.pad_token_id).any()


def test_the_ledger_says_what_was_chosen_and_why(tmp_path: Path) -> None:
    from tuitune.trainer.effective import ledger

    made = built(tmp_path / "run", more=", padding_free: auto")
    chosen = {(entry.section, entry.key): entry for entry in ledger(made) if entry.source == "adjusted"}
    assert chosen["training", "padding_free"].value is True
    assert "no padding" in str(chosen["training", "padding_free"].why)
    assert chosen["model", "attn_implementation"].value == "varlen"


def test_a_model_it_is_not_proven_for_keeps_its_padding(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    model, data = make_tiny_model(folder / "model"), write_rows(folder / "rows.jsonl")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.1}))
    text = RECIPE.format(model=model, data=data, batch=4, accumulation=1, adapter=LORA, more=", padding_free: auto")
    run = new_run(folder, text)
    made = build(load_recipe(run.recipe, base=folder), run)
    assert made.trainer.data_collator.padding_free is False
    assert made.filled["training", "padding_free"].why == "this model drops attention weights"
    assert torch.isfinite(torch.tensor(losses(made))).all()


def test_a_run_whose_update_tuitune_takes_apart_learns_the_same(tmp_path: Path) -> None:
    """On the CPU the rows of an update at once, nothing computed again; the ledger says so, the losses are those of 4 × 2 rows."""
    from tuitune.recipe.ledger import read_ledger

    padded = losses(built(tmp_path / "padded"))
    folder = tmp_path / "auto"
    folder.mkdir()
    text = RECIPE.format(
        model=make_tiny_model(folder / "model"), data=write_rows(folder / "rows.jsonl"), batch=4, accumulation=2, adapter=LORA, more=""
    )
    said = "per_device_train_batch_size: 4, gradient_accumulation_steps: 2"
    text = text.replace(said, "padding_free: auto").replace("gpus: cpu", "gpus: cpu, rows_per_update: 8")
    trained = train(folder, text)
    assert trained.returncode == 0, trained.output
    assert trained.losses == pytest.approx(padded, abs=1e-5)
    ledger = {entry.key: entry for entry in read_ledger(trained.run.effective) if entry.section == "training"}
    assert (ledger["per_device_train_batch_size"].value, ledger["gradient_accumulation_steps"].value) == (8, 1)
    assert ledger["per_device_train_batch_size"].source == "adjusted"
