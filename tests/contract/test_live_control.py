"""Tuning while it trains, on real trainers: rate, schedule, steps, pause, another batch; and going on exactly after an interruption."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import new_run
from tests.support.steered import Steered, order, steer
from tests.support.tiny_model import write_rows

transformers = pytest.importorskip("transformers")

PAIRS = [{"q": f"the cat {number}", "good": "sat on the mat", "bad": "ran to the sea"} for number in range(24)]
LORA = "peft: {r: 8, lora_alpha: 16, target_modules: all-linear, lora_dropout: "
FOUR_BITS = "quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_compute_dtype: float32}\n"


def recipe(model: Path, *, task: str = "sft", dropout: float = 0.0, extra: str = "", **training: Any) -> str:
    """24 or 48 rows, a micro-batch of two, a rate that falls from 1e-2 to 0 in a straight line."""
    columns = "{prompt: q, chosen: good, rejected: bad}" if task == "dpo" else "{user: question, assistant: answer}"
    settings = {
        "learning_rate": 1e-2,
        "lr_scheduler_type": "linear",
        "logging_steps": 1,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_length": 64,
        "max_steps": 8,
        "save_strategy": "no",
        **training,
    }
    return (
        f"task: {task}\nmodel: {{name_or_path: {model}, dtype: float32}}\n{LORA}{dropout}}}\n{extra}"
        f"dataset:\n  train: [{{path: train.jsonl, columns: {columns}}}]\n"
        f"  eval: [{{path: train.jsonl, columns: {columns}, max_rows: 4}}]\n"
        f"training: {json.dumps({key: value for key, value in settings.items() if value is not None})}\n"
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_rows(tmp_path / "train.jsonl")
    return tmp_path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    return tmp_path


def rates(done: Steered) -> list[float]:
    return done.each("learning_rate")


def straight(first: float, steps: int) -> list[float]:
    return [first * (steps - step) / steps for step in range(steps)]


def test_without_an_order_it_is_the_plain_trainer_bit_by_bit(tiny_model: Path, workspace: Path) -> None:
    import torch

    from tuitune.recipe.recipe import load_recipe
    from tuitune.trainer.build import build

    text = recipe(tiny_model, dropout=0.1, lr_scheduler_type="cosine", warmup_steps=2, max_steps=None, num_train_epochs=0.5)
    run = new_run(workspace, text)
    plain = build(load_recipe(run.recipe, base=workspace), run).trainer
    torch.set_num_threads(1)  # as steer does: sums are rounded otherwise by two
    plain.train()
    log = [entry for entry in plain.state.log_history if "loss" in entry]
    steered = steer(workspace, text)
    for name in ("loss", "learning_rate", "grad_norm"):
        assert steered.each(name) == [entry[name] for entry in log], name
    assert steered.trainer.state.num_train_epochs == plain.state.num_train_epochs


@pytest.mark.parametrize(
    ("arguments", "after"),
    [
        ({}, [5e-3 * left / 5 for left in (5, 4, 3, 2, 1)]),
        ({"kind": "hold"}, [5e-3] * 5),
        ({"kind": "linear"}, straight(5e-3, 5)),
        ({"kind": "linear", "steps": 2, "end": 1e-3}, [5e-3, 3e-3, 1e-3, 1e-3, 1e-3]),
        ({"kind": "cosine"}, [5e-3 * (1 + math.cos(math.pi * step / 5)) / 2 for step in range(5)]),
    ],
    ids=["scaled", "held", "in a straight line to the end", "in a straight line in two steps", "in a cosine to the end"],
)
def test_a_rate_counts_from_the_next_step_on(tiny_model: Path, workspace: Path, arguments: dict[str, Any], after: list[float]) -> None:
    done = steer(workspace, recipe(tiny_model), {3: [order("set", key="learning_rate", value=5e-3, **arguments)]})
    assert rates(done) == pytest.approx(straight(1e-2, 8)[:3] + after)
    (applied,) = done.told("applied")
    assert (applied["step"], applied["ok"], applied["by"]) == (3, True, "ada")
    assert (applied["old"], applied["new"]) == pytest.approx((1e-2 * 5 / 8, 5e-3))


def test_the_optimizer_steps_with_the_rate_that_the_log_shows(tiny_model: Path, workspace: Path) -> None:
    """A rate of 0 leaves every weight as it is, from the next step on."""
    seen: list[Any] = []

    def watch(trainer: Any) -> None:
        class Weights(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                seen.append([weight.detach().clone() for weight in trainer.model.parameters() if weight.requires_grad])

        trainer.add_callback(Weights())

    steer(workspace, recipe(tiny_model), {3: [order("set", key="learning_rate", value=0, kind="hold")]}, touch=watch)
    changed = [any(not a.equal(b) for a, b in zip(*two)) for two in pairwise(seen)]
    assert changed == [True, True, False, False, False, False, False]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_another_schedule_goes_on_from_the_present_rate(tiny_model: Path, workspace: Path, schedule: str) -> None:
    done = steer(workspace, recipe(tiny_model), {3: [order("set", key="lr_scheduler", value=schedule)]})
    now = 1e-2 * 5 / 8
    curve = {
        "constant": [now] * 5,
        "linear": straight(now, 5),
        "cosine": [now * (1 + math.cos(math.pi * step / 5)) / 2 for step in range(5)],
    }
    assert rates(done)[3:] == pytest.approx(curve[schedule])


def test_more_steps_than_the_epochs_have_are_trained_and_the_curve_ends_with_them(tiny_model: Path, workspace: Path) -> None:
    text = recipe(tiny_model, max_steps=None, num_train_epochs=0.5)
    done = steer(workspace, text, {3: [order("set", key="max_steps", value=15)]})
    assert len(done.each("loss")) == 15, "the recipe's half epoch had six, and a whole one has twelve"
    assert rates(done) == pytest.approx(straight(1e-2, 6)[:3] + straight(1e-2 * 3 / 6, 12))
    assert done.each("max_steps") == [6, 6, 6] + [15] * 12
    assert done.told("applied")[0]["old"] == 6


def test_fewer_steps_end_it_sooner_and_none_that_are_done(tiny_model: Path, workspace: Path) -> None:
    done = steer(workspace, recipe(tiny_model), {3: [order("set", key="max_steps", value=3), order("set", key="max_steps", value=5)]})
    assert len(done.each("loss")) == 5
    refused, taken = done.told("applied")
    assert (refused["ok"], refused["error"]) == (False, "max_steps: step 3 is done already; 4 or more, or stop the run")
    assert (taken["old"], taken["new"]) == (8, 5)


def test_the_last_step_may_turn_out_not_to_be_the_last(tiny_model: Path, workspace: Path) -> None:
    done = steer(workspace, recipe(tiny_model, max_steps=4), {4: [order("set", key="max_steps", value=6)]})
    assert len(done.each("loss")) == 6


def test_how_often_it_logs_saves_and_evaluates(tiny_model: Path, workspace: Path) -> None:
    orders = [order("set", key=key, value=value) for key, value in (("logging_steps", 2), ("save_steps", 3), ("eval_steps", 4))]
    done = steer(workspace, recipe(tiny_model), {2: orders})
    assert [record["step"] for record in done.told("metrics")] == [1, 2, 4, 6, 8]
    assert [record["step"] for record in done.told("checkpoint")] == [3, 6, 8]
    assert [record["step"] for record in done.told("eval")] == [4, 8]
    assert [(record["old"], record["new"]) for record in done.told("applied")] == [(1, 2), ("no", 3), ("no", 4)]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"key": "weight_decay", "value": 1}, "'weight_decay' cannot be set while it trains; learning_rate, lr_scheduler, max_steps"),
        ({"key": "learning_rate", "value": "fast"}, "learning_rate takes a number that is 0 or more, not 'fast'"),
        ({"key": "learning_rate", "value": -1}, "learning_rate takes a number that is 0 or more, not -1"),
        ({"key": "learning_rate", "value": True}, "not True"),
        ({"key": "learning_rate", "value": 1, "kind": "up"}, "kind is scale, hold, linear or cosine, not 'up'"),
        ({"key": "lr_scheduler", "value": "wavy"}, "lr_scheduler is constant, linear or cosine, not 'wavy'"),
        ({"key": "save_steps", "value": 0.5}, "save_steps takes a whole number from 1 on, not 0.5"),
        ({"key": "max_steps"}, "max_steps takes a number that is 0 or more, not None"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(tiny_model: Path, workspace: Path, arguments: dict[str, Any], why: str) -> None:
    done = steer(workspace, recipe(tiny_model, max_steps=2), {1: [{"id": "a", "op": "set", "args": arguments}]})
    assert why in done.link.replies[0]["error"]
    assert rates(done) == pytest.approx(straight(1e-2, 2))


def test_a_rate_of_nothing_cannot_be_scaled(tiny_model: Path, workspace: Path) -> None:
    zero, more = order("set", key="learning_rate", value=0, kind="hold"), order("set", key="learning_rate", value=1e-3)
    done = steer(workspace, recipe(tiny_model), {2: [zero, more]})
    assert [reply["ok"] for reply in done.link.replies] == [True, False]
    assert "use kind=hold" in done.link.replies[1]["error"]


def test_a_scheduler_that_takes_no_value_says_so(tiny_model: Path, workspace: Path) -> None:
    text = recipe(tiny_model, lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="steps", eval_steps=4, metric_for_best_model="loss")
    done = steer(workspace, text, {2: [order("set", key="learning_rate", value=1e-3), order("set", key="max_steps", value=5)]})
    assert "in the hands of ReduceLROnPlateau" in done.link.replies[0]["error"]
    assert len(done.each("loss")) == 5


@pytest.mark.parametrize("mode", ["keep", "trim"])
def test_a_paused_run_takes_orders_and_goes_on_as_if_nothing_had_been(tiny_model: Path, workspace: Path, mode: str) -> None:
    text = recipe(tiny_model, dropout=0.1)
    undisturbed = steer(workspace, text)
    planned = {3: [order("pause", mode=mode)], 3.1: [order("evaluate"), order("save")], 3.2: [order("set", key="logging_steps", value=1)]}
    done = steer(workspace, text, {**planned, 3.3: [order("resume")]})
    assert done.each("loss") == undisturbed.each("loss")
    assert [(record["op"], record["step"], record["ok"]) for record in done.told("applied")] == [
        (op, 3, True) for op in ("pause", "evaluate", "save", "set", "resume")
    ]
    states = [(record["s"], record["step"], record["why"]) for record in done.told("state")]
    assert ("paused", 3, "paused by ada") in states
    assert states[-1][0] == "running"
    assert max(done.each("step_ms")) < 10_000, "the pause is no training time"


def test_it_can_be_stopped_while_it_is_paused_and_resumed_only_then(tiny_model: Path, workspace: Path) -> None:
    done = steer(workspace, recipe(tiny_model), {2: [order("resume")], 3: [order("pause")], 3.1: [order("stop")]})
    assert done.link.replies[0]["error"] == "it is not paused"
    assert len(done.each("loss")) == 3
    assert [record["step"] for record in done.told("checkpoint")] == [3]


def test_numbers_that_are_none_stop_the_run_and_cost_no_good_checkpoint(tiny_model: Path, workspace: Path) -> None:
    def poison(trainer: Any) -> None:
        class Poison(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
            def on_step_end(self, args: Any, state: Any, *more: Any, **kwargs: Any) -> None:
                if state.global_step == 3:
                    next(weight for weight in trainer.model.parameters() if weight.requires_grad).data.fill_(math.nan)

        trainer.add_callback(Poison())

    planned = {4.1: [order("save"), order("pause", mode="suspend")], 4.2: [order("stop")]}
    text = recipe(tiny_model, save_strategy="steps", save_steps=2)
    done = steer(workspace, text, planned, touch=poison)
    assert [record["step"] for record in done.told("checkpoint")] == [2], "the one of step 4 would be worth nothing"
    (alarm,) = done.told("alarm")
    assert (alarm["kind"], alarm["step"]) == ("nan", 4)
    assert [(record["op"], record["by"], record["ok"]) for record in done.told("applied")] == [
        ("pause", "tuitune", True),
        ("save", "ada", False),
        ("pause", "ada", False),
        ("stop", "ada", True),
    ]
    assert any(record["s"] == "paused" and record["why"] == f"nan: {alarm['text']}" for record in done.told("state"))
    assert done.stop.save is False


def test_a_question_is_answered_at_the_boundary_and_the_training_does_not_notice(tiny_model: Path, workspace: Path) -> None:
    text = recipe(tiny_model, dropout=0.1)
    undisturbed = steer(workspace, text)
    asked = [order("sample", prompt="where is the cat", max_new_tokens=5), order("sample"), order("sample", prompt="x", max_new_tokens=0)]
    done = steer(workspace, text, {3: asked})
    assert done.each("loss") == undisturbed.each("loss")
    (answer,) = done.told("sample")
    assert (answer["step"], answer["prompt"], answer["tokens"] <= 5) == (3, "where is the cat", True)
    assert [record["ok"] for record in done.told("applied")] == [True, False, False]
    assert "give a prompt" in done.told("applied")[1]["error"]


def test_a_full_disk_costs_the_checkpoint_and_not_the_stop(tiny_model: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, step: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuitune.trainer.saving.mark_complete", refuse)
    done = steer(
        workspace,
        recipe(tiny_model),
        {2: [order("pause", mode="suspend"), order("reshape", gradient_accumulation_steps=1)], 4: [order("stop")]},
    )
    assert [(record["op"], record["ok"]) for record in done.told("applied")] == [("pause", False), ("reshape", False), ("stop", True)]
    assert "could not be written" in done.link.replies[0]["error"]
    assert len(done.each("loss")) == 4


def test_a_save_that_the_disk_refuses_is_no_save(tiny_model: Path, workspace: Path) -> None:
    def fill_up(trainer: Any) -> None:
        def refuse(*args: Any, **kwargs: Any) -> None:
            raise OSError(28, "No space left on device")

        trainer.save_model = refuse

    done = steer(workspace, recipe(tiny_model, max_steps=3), {2: [order("save")]}, touch=fill_up)
    (applied,) = done.told("applied")
    assert (applied["ok"], "could not be written" in applied["error"]) == (False, True)
    assert [(record["step"], record["complete"]) for record in done.told("checkpoint")] == [(2, False)]
    assert len(done.each("loss")) == 3


def test_suspended_at_the_last_step_it_ends_as_it_would(tiny_model: Path, workspace: Path) -> None:
    done = steer(workspace, recipe(tiny_model, max_steps=3), {3: [order("pause", mode="suspend")]})
    assert done.told("applied")[0]["error"] == "the training ends with this step"
    assert done.stop.suspended is False


@pytest.mark.parametrize("epochs", [None, 0.25], ids=["steps", "epochs"])
def test_killed_after_its_last_checkpoint_it_trains_not_a_step_more(tiny_model: Path, workspace: Path, epochs: float | None) -> None:
    text = recipe(tiny_model, max_steps=None if epochs else 3, num_train_epochs=epochs)
    whole, rest = resumed(workspace, text, {}, 3)
    assert len(whole.each("loss")) == 3
    assert rest.each("loss") == []
    assert rest.trainer.state.global_step == 3
    assert all(a.equal(b) for a, b in zip(whole.trainer.model.parameters(), rest.trainer.model.parameters()))


def test_suspended_it_ends_with_a_checkpoint_and_no_result(tiny_model: Path, workspace: Path) -> None:
    done = steer(workspace, recipe(tiny_model), {3: [order("pause", mode="suspend")]})
    assert [(record["step"], record["complete"]) for record in done.told("checkpoint")] == [(3, True)]
    assert (done.stop.suspended, done.stop.save, done.stop.why) == (True, False, "suspended by ada")


def test_another_batch_of_the_same_size_trains_the_same(tiny_model: Path, workspace: Path) -> None:
    """Two rows twice, from step three on four rows once, and over the end of the epoch: every row in its place, to rounding."""
    text = recipe(tiny_model, max_steps=16)
    undisturbed = steer(workspace, text)
    change = order("reshape", per_device_train_batch_size=4, gradient_accumulation_steps=1)
    done = steer(workspace, text, {3: [change]})
    assert done.each("loss") == pytest.approx(undisturbed.each("loss"), rel=1e-5)
    assert rates(done) == pytest.approx(rates(undisturbed))
    (applied,) = done.told("applied")
    assert (applied["step"], applied["ok"], applied["new"]["per_device_train_batch_size"]) == (3, True, 4)
    assert done.each("tokens") == undisturbed.each("tokens")


def test_a_larger_update_sees_every_row_once_and_ends_the_epochs_where_they_end(tiny_model: Path, workspace: Path) -> None:
    """48 rows: three updates of four, then three of twelve; the rate falls to the end as planned."""
    seen: list[list[int]] = []

    def watch(trainer: Any) -> None:
        inner = trainer.training_step

        def step(model: Any, inputs: Any, *args: Any) -> Any:
            seen.extend(row[mask.bool()].tolist() for row, mask in zip(inputs["input_ids"], inputs["attention_mask"]))
            return inner(model, inputs, *args)

        trainer.training_step = step

    text = recipe(tiny_model, max_steps=None, num_train_epochs=1, padding_free=False)
    done = steer(workspace, text, {3: [order("reshape", gradient_accumulation_steps=6)]}, touch=watch)
    assert sorted(seen) == sorted(done.trainer.train_dataset["input_ids"])
    assert done.each("max_steps") == [12, 12, 12, 6, 6, 6]
    assert rates(done)[3:] == pytest.approx(straight(1e-2 * 9 / 12, 3))


def test_a_batch_of_another_kind_is_refused(tiny_model: Path, workspace: Path) -> None:
    same = order("reshape", per_device_train_batch_size=2, gradient_accumulation_steps=2)
    done = steer(workspace, recipe(tiny_model, max_steps=3), {1: [order("reshape", per_device_train_batch_size="big"), same]})
    assert [reply["ok"] for reply in done.link.replies] == [False, False]
    assert "takes a whole number from 1 on, not 'big'" in done.link.replies[0]["error"]


def resumed(folder: Path, text: str, planned: dict[float, list[dict[str, Any]]], step: int) -> tuple[Steered, Steered]:
    """The whole run, and what goes on from its checkpoint of a step in a trainer that knows nothing else."""
    whole = steer(folder, text, {**planned, step: [*planned.get(step, []), order("save")]})
    return whole, steer(folder, text, {}, resume=whole.checkpoint(step))


CHANGES = {2: [order("set", key="learning_rate", value=2e-2, kind="cosine"), order("set", key="max_steps", value=14)]}


@pytest.mark.parametrize("task", ["sft", "dpo"])
@pytest.mark.parametrize("step", [5, 12, 13])
def test_a_run_goes_on_exactly_with_what_was_set_by_hand(tiny_model: Path, tmp_path: Path, task: str, step: int) -> None:
    """Dropout, a rate set by hand, more steps than the recipe has, in the middle and at the end of an epoch."""
    if task == "dpo":
        (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    else:
        write_rows(tmp_path / "train.jsonl")
    text = recipe(tiny_model, task=task, dropout=0.2, max_steps=None, num_train_epochs=1, lr_scheduler_type="cosine", warmup_steps=2)
    whole, rest = resumed(tmp_path, text, CHANGES, step)
    assert len(whole.each("loss")) == 14
    for name in ("loss", "grad_norm", "learning_rate", "epoch", "tokens", "max_steps"):
        assert rest.each(name) == whole.each(name)[step:], name


@pytest.mark.parametrize("adapter", ["trl", "float32", "bfloat16"])
def test_a_quantised_run_goes_on_exactly_whatever_the_type_of_its_adapter(tiny_model: Path, workspace: Path, adapter: str) -> None:
    text = recipe(tiny_model, extra=f"{FOUR_BITS}launch: {{adapter_dtype: {adapter}}}\n")
    whole, rest = resumed(workspace, text, {}, 4)
    kinds = {str(weight.dtype) for weight in rest.trainer.model.parameters() if weight.requires_grad}
    assert kinds == {str(weight.dtype) for weight in whole.trainer.model.parameters() if weight.requires_grad}
    assert rest.each("loss") == whole.each("loss")[4:]
    assert rest.each("grad_norm") == whole.each("grad_norm")[4:]


def test_full_fine_tuning_goes_on_exactly(tiny_model: Path, workspace: Path) -> None:
    text = "".join(line for line in recipe(tiny_model).splitlines(keepends=True) if not line.startswith("peft:"))
    whole, rest = resumed(workspace, text, {}, 4)
    assert rest.each("loss") == whole.each("loss")[4:]


def test_after_another_batch_it_goes_on_with_that_and_at_the_right_row(tiny_model: Path, workspace: Path) -> None:
    text = recipe(tiny_model, max_steps=None, num_train_epochs=2)
    planned = {3: [order("reshape", per_device_train_batch_size=4, gradient_accumulation_steps=3)]}
    whole, rest = resumed(workspace, text, planned, 5)
    assert rest.trainer.args.per_device_train_batch_size == 4
    assert rest.each("loss") == whole.each("loss")[5:]
    assert rest.each("learning_rate") == pytest.approx(whole.each("learning_rate")[5:])


def test_a_next_attempt_with_half_the_micro_batch_trains_the_same(tiny_model: Path, workspace: Path) -> None:
    """What the hub does after it ran out of memory: half the rows, twice the accumulation."""
    text = recipe(tiny_model)
    whole = steer(workspace, text, {4: [order("save")]})
    smaller = recipe(tiny_model, per_device_train_batch_size=1, gradient_accumulation_steps=4)
    rest = steer(workspace, smaller, {}, resume=whole.checkpoint(4), reshaped=True)
    assert rest.trainer.args.per_device_train_batch_size == 1
    assert rest.each("loss") == pytest.approx(whole.each("loss")[4:], abs=1e-5)
