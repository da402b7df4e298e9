"""A micro-batch that runs out of memory is split, and the run is the one that it would have been with more memory."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_control import build
from tests.support.runs import ONE_THREAD, ROOT
from tests.support.tiny_model import write_rows

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.support.out_of_memory import SmallCard, refuse  # noqa: E402

NF4 = "quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_compute_dtype: float32}\n"
LORA = "peft: {r: 8, lora_alpha: 16, target_modules: all-linear}\n"
PACKED = ", packing: true, packing_strategy: bfd_split"
JOINED = ", padding_free: auto"
COLUMNS = {
    "sft": "{user: question, assistant: answer}",
    "dpo": "{prompt: question, chosen: answer, rejected: worse}",
    "reward": "{prompt: question, chosen: answer, rejected: worse}",
    "kto": "{prompt: question, completion: answer, label: good}",
}
ROOM = {"sft": 110, "dpo": 240, "reward": 240}  # tokens: some micro-batches of four fit, some do not
SFT_LOGS = {"entropy", "mean_token_accuracy", "num_tokens"}
SIDES = {f"{what}/{side}" for what in ("logits", "logps", "rewards") for side in ("chosen", "rejected")}
DPO_LOGS = SFT_LOGS | SIDES | {"rewards/accuracies", "rewards/margins"}
REWARD_LOGS = {"min_reward", "mean_reward", "max_reward", "accuracy", "margin", "num_tokens"}
OF_EVERY_LOG = {"loss", "grad_norm", "learning_rate", "epoch", "step"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of every task, their lengths varied."""
    folder = tmp_path_factory.mktemp("split")
    rows = [json.loads(line) for line in write_rows(folder / "train.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"worse": row["answer"][::-1] + " one" * (number % 4), "good": number % 2 == 0}
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def recipe(model: Path, task: str, training: str = "", extra: str = LORA) -> str:
    if task == "sft" and training not in (PACKED, JOINED):
        training += ", padding_free: false"
    return (
        f"task: {task}\nmodel: {{name_or_path: {model}, dtype: float32}}\n{extra}"
        f"dataset:\n  train: [{{path: train.jsonl, columns: {COLUMNS[task]}}}]\nlaunch: {{gpus: cpu}}\n"
        "training: {max_steps: 4, learning_rate: 2.0e-4, logging_steps: 1, per_device_train_batch_size: 4, gradient_accumulation_steps: 3, "
        f"max_length: 64, save_strategy: 'no'{training}}}\n"
    )


@dataclass
class Trained:
    """What a training has left: weights, logs, and what was told of memory."""

    weights: dict[str, Any]
    logs: list[dict[str, Any]]
    told: list[dict[str, Any]]
    refused: list[int]
    trainer: Any


class Optimizer(transformers.TrainerCallback):  # type: ignore[misc]
    """Guards the optimizer as a run does; `fails`: memory runs out once, in the second update, before anything has changed."""

    def __init__(self, trainer: Any, fails: bool, told: list[dict[str, Any]]) -> None:
        self.trainer, self.fails, self.told = trainer, fails, told

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        from tuitune.trainer.optimizer_retry import guard_optimizer

        inner = self.trainer.optimizer.optimizer
        plain = inner.step

        def step(*args: Any, **kwargs: Any) -> Any:
            if self.fails and self.trainer.state.global_step == 1:
                self.fails = False
                refuse()
            return plain(*args, **kwargs)

        inner.step = step
        guard_optimizer(self.trainer, lambda **fields: self.told.append(fields))


def train(folder: Path, text: str, room: int = 0, where: str = "forward", change: Any = None) -> Trained:
    """Train as the control mixin does, on a card with room for so many tokens (0: for any number)."""
    from tuitune.trainer.split_batch import SplitMemory, training_step

    torch.set_num_threads(1)
    trainer, told, refused = build(folder, text)[0].trainer, [], []
    if change is not None:
        change(trainer)
    if room:
        memory, plain = SplitMemory(lambda **fields: told.append(fields)), trainer.training_step
        trainer.training_step = lambda model, inputs, items=None: training_step(trainer, plain, model, inputs, items, memory)
        refused = SmallCard(trainer.model, room, where).refused
    trainer.add_callback(Optimizer(trainer, where == "optimizer", told))
    trainer.train()
    weights = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    return Trained(weights, [log for log in trainer.state.log_history if "loss" in log], told, refused, trainer)


def same(one: Trained, other: Trained) -> None:
    """Weights and losses within 1e-6, and every number of TRL's logs."""
    assert one.weights.keys() == other.weights.keys()
    assert max((one.weights[name] - other.weights[name]).abs().max().item() for name in one.weights) <= 1e-6
    assert [log["loss"] for log in one.logs] == pytest.approx([log["loss"] for log in other.logs], rel=1e-6, abs=1e-6)
    for mine, theirs in zip(one.logs, other.logs, strict=True):
        assert mine.keys() == theirs.keys()
        assert {name: mine[name] for name in theirs} == pytest.approx(theirs, rel=1e-5, abs=1e-6)


@pytest.fixture(scope="module")
def unlimited(tiny_model: Path, workspace: Path) -> Any:
    """(task, training, extra) → the run with room for everything, trained once."""
    known: dict[Any, Trained] = {}

    def run(task: str, training: str = "", extra: str = LORA) -> Trained:
        key = (task, training, extra)
        if key not in known:
            known[key] = train(workspace, recipe(tiny_model, task, training, extra))
        return known[key]

    return run


@pytest.mark.parametrize("quantized", [False, True], ids=["lora", "qlora"])
@pytest.mark.parametrize(
    ("task", "training"), [("sft", ""), ("sft", PACKED), ("sft", JOINED), ("dpo", "")], ids=["rows", "packed", "joined", "dpo"]
)
@pytest.mark.parametrize("where", ["forward", "backward", "optimizer"])
def test_a_run_that_runs_out_of_memory_ends_with_the_same_weights(
    tiny_model: Path, workspace: Path, unlimited: Any, where: str, task: str, training: str, quantized: bool
) -> None:
    """Done when 6 of issue E. In the backward pass some layers have their gradients already, also those of earlier micro-batches."""
    extra = LORA + (NF4 if quantized else "")
    whole = unlimited(task, training, extra)
    done = train(workspace, recipe(tiny_model, task, training, extra), 0 if where == "optimizer" else ROOM[task], where)
    same(done, whole)
    if where == "optimizer":
        assert [(one["step"], one["phase"], one["retry"]) for one in done.told] == [(2, "optimizer step", "the step")]
        return
    assert {one["phase"] for one in done.told} == {where}
    assert len(done.told) == len(done.refused)
    assert max(done.refused) > ROOM[task]
    if not training:
        assert max(one["micro"] for one in done.told) > 1, "one that others of its update went before"


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_size_that_failed_is_not_tried_again(tiny_model: Path, workspace: Path, unlimited: Any, where: str) -> None:
    """Each refusal is of fewer tokens than the one before, also of the parts that wait, down to one row."""
    done = train(workspace, recipe(tiny_model, "sft"), 45, where)
    same(done, unlimited("sft"))
    assert done.refused == sorted(set(done.refused), reverse=True)
    assert 1 < len(done.refused) < 8
    first = done.told[0]
    assert (first["step"], first["micro"], first["retry"], first["tokens"]) == (1, 1, "2 × 2 rows", done.refused[0])
    assert (first["peak"] is None) == (not torch.cuda.is_available())


@pytest.mark.parametrize("task", ["sft", "dpo", "reward", "kto"])
def test_a_run_with_enough_memory_is_to_the_bit_the_plain_one(tiny_model: Path, workspace: Path, task: str) -> None:
    """Also with dropout, and for a trainer whose micro-batches cannot be split; torch's schedulers miss nothing at the optimizer."""
    import warnings

    text = recipe(tiny_model, task, extra=LORA.replace("r: 8", "r: 8, lora_dropout: 0.2"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        one, other = train(workspace, text), train(workspace, text, 10_000, "nowhere")
    assert not [one for one in warned if "lr_scheduler" in str(one.message) or "overridden" in str(one.message)]
    assert one.logs == other.logs
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


@pytest.mark.parametrize(
    ("task", "training", "extra"),
    [
        ("sft", ", label_smoothing_factor: 0.1", LORA),
        ("sft", ", loss_type: dft", LORA),
        ("sft", "", ""),
        ("sft", ", activation_checkpointing: true", LORA),
        ("dpo", ", loss_type: [ipo, hinge], loss_weights: [1.0, 0.5]", LORA),
        ("dpo", ", precompute_ref_log_probs: true", LORA),
        ("dpo", ", ld_alpha: 0.5, use_weighting: true", LORA),
        ("reward", ", center_rewards_coefficient: 0.1", LORA),
    ],
    ids=["smoothed", "dft", "full", "checkpointing", "two losses", "precomputed", "weighted", "reward"],
)
def test_every_loss_that_is_a_sum_over_rows_is_split(
    tiny_model: Path, workspace: Path, unlimited: Any, task: str, training: str, extra: str
) -> None:
    done = train(workspace, recipe(tiny_model, task, training, extra), ROOM[task], "backward")
    same(done, unlimited(task, training, extra))
    assert done.told


def test_a_mean_over_the_micro_batch_is_weighted_by_its_tokens(tiny_model: Path, workspace: Path) -> None:
    """Models whose forward takes no number of items: the trainer divides by its accumulation steps instead."""

    def own_mean(trainer: Any) -> None:
        trainer.model_accepts_loss_kwargs = False

    text = recipe(tiny_model, "sft")
    same(train(workspace, text, ROOM["sft"], "backward", own_mean), train(workspace, text, change=own_mean))


def test_with_dropout_it_does_not_matter_where_memory_ran_out(tiny_model: Path, workspace: Path) -> None:
    """Every part starts from the same random numbers again, so that a run which is resumed and fails anew goes on as the first did."""
    text = recipe(tiny_model, "sft", extra=LORA.replace("r: 8", "r: 8, lora_dropout: 0.2"))
    one, other = (train(workspace, text, ROOM["sft"], where) for where in ("forward", "backward"))
    assert [log["loss"] for log in one.logs] == [log["loss"] for log in other.logs]
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


@pytest.mark.parametrize(("task", "logs"), [("sft", SFT_LOGS), ("dpo", DPO_LOGS), ("reward", REWARD_LOGS)])
def test_the_metrics_are_those_whose_averages_are_known(unlimited: Any, task: str, logs: set[str]) -> None:
    """A new one would have to be looked at: over what is it an average? (tuitune.trainer.split_metrics)"""
    training = ", center_rewards_coefficient: 0.1" if task == "reward" else ""
    assert unlimited(task, training).logs[0].keys() - OF_EVERY_LOG == logs


def test_one_row_that_does_not_fit_ends_the_run_with_the_reason(tiny_model: Path, workspace: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        train(workspace, recipe(tiny_model, "sft"), 10)
    assert caught.value.__notes__ == ["The micro-batch cannot be done in smaller parts: one row alone does not fit."]


@pytest.mark.parametrize(
    ("task", "training", "why"),
    [
        ("dpo", ", loss_type: aot", "the loss aot is no mean over pairs"),
        ("dpo", ", loss_type: [sigmoid, sft]", "the loss sft is no mean over pairs"),
        ("kto", "", "the loss of ControlledKTOTrainer is no sum over rows"),
    ],
)
def test_what_is_no_sum_over_rows_is_not_split(tiny_model: Path, workspace: Path, task: str, training: str, why: str) -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        train(workspace, recipe(tiny_model, task, training), 1)
    assert why in caught.value.__notes__[0]


def test_other_ranks_and_routers_are_not_left_waiting(tiny_model: Path, workspace: Path) -> None:
    from tuitune.trainer.split_batch import why_whole

    trainer = build(workspace, recipe(tiny_model, "sft"))[0].trainer
    assert why_whole(trainer) is None
    trainer.aux_loss_enabled = True
    assert "mixture of experts" in str(why_whole(trainer))
    trainer.args.activation_offloading = True
    assert "a failed pass has left" in str(why_whole(trainer))
    trainer.args.activation_offloading = False
    trainer.aux_loss_enabled, trainer.args.optim = False, "galore_adamw_layerwise"
    assert "backward pass" in str(why_whole(trainer))
    trainer.accelerator.state.num_processes = 2
    try:
        assert "every rank" in str(why_whole(trainer))
    finally:
        trainer.accelerator.state.num_processes = 1


def test_an_allocator_that_really_refuses_costs_nothing_but_time(tmp_path: Path) -> None:
    """Not played: the process may take 60 MiB more than it has, where one micro-batch of 256 rows wants more."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.real_out_of_memory", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        env={**os.environ, **ONE_THREAD, "HF_HUB_OFFLINE": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout.splitlines()[-1])
    assert result["difference"] <= 1e-6
    assert result["told"][0]["tokens"] > 4000
    assert all(one["retry"] for one in result["told"])


def test_an_error_of_another_kind_goes_on_at_once(tiny_model: Path, workspace: Path) -> None:
    def break_down(trainer: Any) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("device-side assert triggered")

        trainer.compute_loss = fail

    with pytest.raises(RuntimeError, match="device-side assert"):
        train(workspace, recipe(tiny_model, "sft"), 1000, change=break_down)
