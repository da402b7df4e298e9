"""What the control mixin and the trainer lean on inside transformers and TRL; an upgrade that changes one of these fails here, loudly.

Holds on both tested version sets (transformers 5.23 and 5.17).
"""

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
trl = pytest.importorskip("trl")


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_boundary_is_called_with_what_the_mixin_passes_on() -> None:
    assert parameters(transformers.Trainer._maybe_log_save_evaluate)[0] == "self"
    source = inspect.getsource(transformers.Trainer._maybe_log_save_evaluate)
    assert source.index("should_log") < source.index("should_evaluate") < source.index("should_save")
    assert "_globalstep_last_logged" in source, "the step's log must be guarded by its number: save and evaluate call the boundary again"


def test_checkpoints_go_through_one_method_into_a_folder_named_by_the_step() -> None:
    assert parameters(transformers.Trainer._save_checkpoint) == ["self", "model", "trial"]
    source = inspect.getsource(transformers.Trainer._save_checkpoint)
    assert "PREFIX_CHECKPOINT_DIR" in source
    assert transformers.trainer_utils.PREFIX_CHECKPOINT_DIR == "checkpoint"


def test_fsdp_wraps_the_model_in_one_method_and_saves_through_another() -> None:
    """What tuitune.trainer.spread overrides, and how the loop is told to exchange gradients at every micro-batch (trainer.strategy)."""
    assert "accelerator.prepare" in inspect.getsource(transformers.Trainer._prepare_for_training)
    assert parameters(transformers.Trainer.save_model) == ["self", "output_dir", "_internal_call"]
    assert parameters(transformers.Trainer._save) == ["self", "output_dir", "state_dict"]
    assert "sync_each_batch" in inspect.getsource(transformers.Trainer._run_epoch)
    assert "fsdp_plugin_args" in inspect.getsource(transformers.Trainer)


@pytest.mark.parametrize("name", ["SFTTrainer", "DPOTrainer", "KTOTrainer", "RewardTrainer"])
def test_a_training_step_takes_model_and_inputs_first(name: str) -> None:
    assert {*parameters(getattr(trl, name).training_step)} >= {"self"}, "called as training_step(model, inputs, …) by the training loop"
    assert parameters(transformers.Trainer.training_step)[:3] == ["self", "model", "inputs"]
    taken = parameters(getattr(trl, name).__init__)
    assert {"model", "args", "train_dataset", "eval_dataset", "processing_class", "peft_config"} <= set(taken)


@pytest.mark.parametrize("name", ["SFTConfig", "DPOConfig", "KTOConfig", "RewardConfig"])
def test_every_fill_in_is_a_field_of_the_config(name: str) -> None:
    from tuitune.trainer.box import Box, training_fill_ins

    known = {item.name for item in fields(getattr(trl, name))}
    for box in (Box(False, "CPU", (0, 0)), Box(True, "A100", (8, 0)), Box(True, "T4", (7, 5))):
        assert set(training_fill_ins({"per_device_train_batch_size": 2}, box, Path("x"))) <= known


def test_the_order_inside_one_update_is_step_then_boundary(tiny_model: Path, tmp_path: Path) -> None:
    """on_step_end comes before the boundary, where the step's own log, evaluation and checkpoint are made."""
    import datasets

    calls: list[str] = []

    class Spy(trl.SFTTrainer):  # type: ignore[misc, name-defined]
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            calls.append("training_step")
            return super().training_step(*args, **kwargs)

        def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
            calls.append("boundary")
            super()._maybe_log_save_evaluate(*args, **kwargs)

        def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            calls.append("save")
            super()._save_checkpoint(*args, **kwargs)

    class Ends(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            calls.append("step_end")

    cuda = __import__("torch").cuda.is_available()
    arguments = trl.SFTConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=1,
        save_steps=1,
        use_cpu=not cuda,
        bf16=False,
    )
    rows = datasets.Dataset.from_list([{"text": "the cat sat on the mat"}] * 4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    Spy(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer, callbacks=[Ends()]).train()
    assert calls[:5] == ["training_step", "training_step", "step_end", "boundary", "save"]


def test_a_step_begins_once_for_all_its_micro_batches_and_ends_before_its_evaluation(tiny_model: Path, tmp_path: Path) -> None:
    """What a run's pace is measured by (tuitune.trainer.pace)."""
    import datasets

    calls: list[str] = []

    class Look(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            calls.append("begin")

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            calls.append("end")

        def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
            calls.append("evaluated")

    arguments = trl.SFTConfig(
        output_dir=str(tmp_path),
        max_steps=2,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=1,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="no",
        use_cpu=not __import__("torch").cuda.is_available(),
        bf16=False,
    )
    rows = datasets.Dataset.from_list([{"text": "the cat sat on the mat"}] * 4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    trainer = trl.SFTTrainer(
        model=model, args=arguments, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer, callbacks=[Look()]
    )
    trainer.train()
    assert calls == ["begin", "end", "evaluated"] * 2


def test_rows_can_be_kept_as_they_are_whatever_the_other_rows_hold() -> None:
    import datasets

    assert "on_mixed_types" in parameters(datasets.Dataset.from_list)
    rows = [{"messages": [{"role": "user", "arguments": {"a": 1}}]}, {"messages": [{"role": "user", "arguments": {"b": "x"}}]}]
    assert list(datasets.Dataset.from_list(rows, on_mixed_types="use_json")) == rows


def test_trl_seeds_itself_before_it_makes_the_adapter() -> None:
    source = inspect.getsource(trl.SFTTrainer.__init__)
    assert source.index("set_seed(") < source.index("get_peft_model(")


@pytest.mark.parametrize("every", [1, 2])
def test_dpo_cannot_checkpoint_every_second_layer(tiny_model: Path, tmp_path: Path, every: int) -> None:
    """When this no longer fails, build.py need not refuse it."""
    import datasets

    rows = datasets.Dataset.from_list([{"prompt": "one ", "chosen": "two three", "rejected": "four"}] * 4)
    args = trl.DPOConfig(
        output_dir=str(tmp_path),
        max_steps=2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"every_n_layers": every},
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    trainer = trl.DPOTrainer(model=model, ref_model=reference, args=args, train_dataset=rows, processing_class=tokenizer)
    with pytest.raises(ValueError, match="Unexpected keyword arguments: every_n_layers"):
        trainer.train()


def test_a_reward_model_s_new_head_is_the_same_in_every_run(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    from tests.support.short_training import new_run_beside
    from tuitune.recipe.recipe import load_recipe
    from tuitune.trainer.build import build

    (tmp_path / "rows.jsonl").write_text('{"prompt": "one ", "chosen": "two three", "rejected": "four"}\n' * 4)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"task: reward\nmodel: {{name_or_path: {tiny_model}}}\ndataset: {{train: [{{path: rows.jsonl}}]}}\nlaunch: {{gpus: cpu}}\n"
    )
    heads = []
    for stirred in (1, 2):
        torch.manual_seed(stirred)
        trainer = build(load_recipe(path), new_run_beside(path)).trainer
        heads.append(next(weight.clone() for name, weight in trainer.model.named_parameters() if "score" in name))
    assert torch.equal(*heads)


def test_torchrun_waits_for_a_save_as_long_as_the_environment_says() -> None:
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler
    from torch.distributed.launcher import api

    assert "TORCH_ELASTIC_SHUTDOWN_TIMEOUT" in inspect.getsource(api.LaunchConfig)
    assert "start_new_session" in inspect.getsource(subprocess_handler), "else its processes would end with its process group"


def test_the_epochs_the_place_in_the_data_and_the_schedule_are_made_where_the_mixin_changes_them() -> None:
    trainer = transformers.Trainer
    names = ["self", "max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint", "trial"]
    assert parameters(trainer._init_training_state) == names
    assert parameters(trainer.set_initial_training_values) == ["self", "args", "dataloader"]
    returned = inspect.getsource(trainer.set_initial_training_values).rpartition("return (")[2]
    assert [name.strip(" ,\n)") for name in returned.split(",")][:7] == [
        *("num_train_epochs", "num_update_steps_per_epoch", "num_examples", "num_train_samples"),
        *("total_train_batch_size", "steps_in_epoch", "max_steps"),
    ]
    loop = inspect.getsource(trainer._inner_training_loop)
    assert loop.index("_init_training_state(") < loop.index("_prepare_for_training(") < loop.index("on_train_begin(")
    assert parameters(trainer._load_optimizer_and_scheduler) == ["self", "checkpoint"]
    assert parameters(trainer.create_scheduler)[:2] == ["self", "num_training_steps"]


def test_a_lambda_scheduler_keeps_the_attributes_of_a_callable_and_nothing_else_of_it() -> None:
    import torch

    class Factor:
        __slots__ = ("__dict__", "function")

        def __init__(self) -> None:
            self.function, self.kept = len, [1]

        def __call__(self, step: int) -> float:
            return 1.0

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, Factor())
    assert scheduler.state_dict()["lr_lambdas"] == [{"kept": [1]}]
    assert scheduler._last_lr == [1.0], "what the next log reads"
