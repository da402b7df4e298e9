"""What the trainer tells of where a step's time goes, on real trainings of the tiny model; and what that leans on inside transformers."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from tests.support.steered import order, steer
from tests.support.tiny_model import write_rows

transformers = pytest.importorskip("transformers")


def recipe(model: Path, training: str = "") -> str:
    return (
        f"task: sft\nmodel: {{name_or_path: {model}, dtype: float32}}\npeft: {{r: 4, target_modules: all-linear}}\n"
        "dataset:\n  train: [{path: train.jsonl, columns: {user: question, assistant: answer}}]\nlaunch: {gpus: cpu, proof: false}\n"
        f"training: {{max_steps: 4, logging_steps: 2, per_device_train_batch_size: 2, max_length: 64, save_strategy: 'no'{training}}}\n"
    )


def test_the_loop_fetches_all_batches_of_an_update_by_one_method_before_the_step_begins() -> None:
    trainer = transformers.Trainer
    assert list(inspect.signature(trainer.get_batch_samples).parameters)[:3] == ["self", "epoch_iterator", "num_batches"]
    loop = inspect.getsource(trainer._run_epoch)
    assert loop.count("get_batch_samples(") == 1
    assert loop.index("get_batch_samples(") < loop.index("on_step_begin(") < loop.index("_maybe_log_save_evaluate(")


def test_every_log_says_where_the_time_of_its_steps_went(tiny_model: Path, tmp_path: Path) -> None:
    """Means over the steps since the last log; on the CPU there is no GPU to be behind."""
    write_rows(tmp_path / "train.jsonl", 12)
    parts = steer(tmp_path, recipe(tiny_model, ", gradient_accumulation_steps: 2")).each("parts")
    assert [part["steps"] for part in parts] == [2, 2]
    for part in parts:
        assert 0 < part["data_ms"] < part["wall_ms"]
        assert part["gpu_behind_ms"] is None


def test_time_of_the_data_is_what_the_loop_waited_for_it(tiny_model: Path, tmp_path: Path) -> None:
    """Batches that take their time: a step has two of them."""
    import time

    write_rows(tmp_path / "train.jsonl", 12)

    def slow_down(trainer: Any) -> None:
        collate = trainer.data_collator

        def slow(rows: Any) -> Any:
            time.sleep(0.05)
            return collate(rows)

        trainer.data_collator = slow

    parts = steer(tmp_path, recipe(tiny_model, ", gradient_accumulation_steps: 2"), touch=slow_down).each("parts")
    assert all(part["data_ms"] >= 100 for part in parts)


def test_padding_is_the_share_of_places_that_no_token_fills(tiny_model: Path, tmp_path: Path) -> None:
    """Counted where the model gets them; packed rows have none."""
    write_rows(tmp_path / "train.jsonl", 12)
    seen: list[Any] = []

    def look(trainer: Any) -> None:
        step = trainer.training_step

        def noted(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(inputs["attention_mask"].float())
            return step(model, inputs, *args, **kwargs)

        trainer.training_step = noted

    ran = steer(tmp_path, recipe(tiny_model, ", padding_free: false"), touch=look)
    places, tokens = sum(mask.numel() for mask in seen), sum(int(mask.sum()) for mask in seen)
    computed = sum(part["tokens_computed"] * part["steps"] for part in ran.each("parts"))
    in_vain = sum(part["padding_share"] * part["tokens_computed"] * part["steps"] for part in ran.each("parts"))
    assert (computed, round(in_vain)) == (places, places - tokens)
    assert places > tokens, "else the rows are all as long as the longest"
    (folder := tmp_path / "packed").mkdir()
    write_rows(folder / "train.jsonl", 12)
    packed = steer(folder, recipe(tiny_model, ", packing: true").replace("max_steps: 4", "max_steps: 2"))
    assert [part["padding_share"] for part in packed.each("parts")] == [0.0]


def test_a_pause_is_no_part_of_a_step(tiny_model: Path, tmp_path: Path) -> None:
    """Nor are evaluations and checkpoints: those are states of the run."""
    write_rows(tmp_path / "train.jsonl", 12)
    planned = {2: [order("pause", mode="keep")], 2.1: [order("resume")]}
    ran = steer(tmp_path, recipe(tiny_model).replace("logging_steps: 2", "logging_steps: 1"), planned)
    assert [part["steps"] for part in ran.each("parts")] == [1, 1, 1, 1]


@pytest.mark.parametrize("lora", [True, False])
def test_the_hello_counts_the_matrices_that_a_token_goes_through(tiny_model: Path, tmp_path: Path, lora: bool) -> None:
    """Every linear layer of the base once, adapters, head and embeddings apart."""
    from tests.support.runs import new_run
    from tuitune.memory.families import read_shape
    from tuitune.recipe.recipe import load_recipe
    from tuitune.trainer.build import build
    from tuitune.trainer.work import describe_work

    write_rows(tmp_path / "train.jsonl", 12)
    text = recipe(tiny_model, ", gradient_checkpointing: true")
    run = new_run(tmp_path, text if lora else text.replace("peft: {r: 4, target_modules: all-linear}\n", ""))
    built = build(load_recipe(run.recipe, base=tmp_path), run)
    work, shape = describe_work(built), read_shape(built.trainer.model.config.to_dict())
    assert (work["weights"], work["head"]) == (shape.all_linear_weights, shape.vocab * shape.hidden)
    assert (work["layers"], work["query_width"]) == (shape.layers, shape.query_width)
    assert (work["full"], work["recompute"], work["reference"], work["why"]) == (not lora, 1.0, False, None)
