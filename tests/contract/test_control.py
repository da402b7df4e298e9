"""Commands at the step boundary of a real trainer, and what building one refuses; all in this process, on the tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import new_run
from tests.support.tiny_model import write_rows
from tuitune.bus.journal import Journal, JournalTail
from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory
from tuitune.trainer.stop import StopRequest

transformers = pytest.importorskip("transformers")


class Link:
    """A trainer's link whose commands arrive at the boundary of the step they are planned for."""

    def __init__(self, planned: dict[int, list[dict[str, Any]]]) -> None:
        self.planned, self.step, self.replies = planned, 0, []

    def take(self) -> list[dict[str, Any]]:
        self.step += 1
        return self.planned.get(self.step, [])

    def reply(self, id: str, ok: bool, error: str | None = None, **fields: Any) -> None:
        self.replies.append((id, ok, error))


def recipe(model: Path, task: str = "sft", columns: str = "{user: question, assistant: answer}", peft: str = "", training: str = "") -> str:
    adapter = f"peft: {{r: 8, lora_alpha: 16, lora_dropout: 0.1, target_modules: all-linear{peft}}}\n"
    return (
        f"task: {task}\nmodel: {{name_or_path: {model}, dtype: float32}}\n{adapter}"
        f"dataset:\n  train: [{{path: train.jsonl, columns: {columns}}}]\n"
        f"  eval: [{{path: train.jsonl, columns: {columns}, max_rows: 4}}]\n"
        "training: {max_steps: 6, learning_rate: 1.0e-2, logging_steps: 1, "
        f"per_device_train_batch_size: 2, max_length: 64, save_strategy: 'no'{training}}}\n"
    )


def build(folder: Path, text: str) -> tuple[Any, RunDirectory]:
    from tuitune.recipe.recipe import load_recipe
    from tuitune.trainer.build import build as build_trainer

    run = new_run(folder, text)
    return build_trainer(load_recipe(run.recipe, base=folder), run), run


def train(folder: Path, text: str, planned: dict[int, list[dict[str, Any]]]) -> tuple[list[dict[str, Any]], Link, StopRequest]:
    """The run's records after training with these commands."""
    from tuitune.trainer.orders import Orders
    from tuitune.trainer.telemetry import Telemetry, TelemetryCallback

    built, run = build(folder, text)
    link, stop, journal = Link(planned), StopRequest(), Journal(run.journal / "trainer-1.jsonl")
    telemetry = Telemetry(journal, link)
    built.trainer.steer(telemetry, stop, Orders(link))
    built.trainer.add_callback(TelemetryCallback(telemetry))
    built.trainer.train()
    journal.close()
    return JournalTail(run.journal).poll(), link, stop


def losses(records: list[dict[str, Any]]) -> list[float]:
    return [record["loss"] for record in records if record["ev"] == "metrics"]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_rows(tmp_path / "train.jsonl")
    return tmp_path


def test_save_and_evaluate_act_at_their_boundary_and_leave_the_training_as_it_was(tiny_model: Path, workspace: Path) -> None:
    """With dropout the losses depend on the random state: they must be those of a run that nobody touched."""
    undisturbed, _, _ = train(workspace, recipe(tiny_model), {})
    planned = {2: [{"id": "a", "op": "evaluate"}, {"id": "b", "op": "save"}], 4: [{"id": "c", "op": "dance"}]}
    records, link, _ = train(workspace, recipe(tiny_model), planned)
    assert losses(records) == pytest.approx(losses(undisturbed), abs=1e-5)
    assert len(losses(records)) == 6
    assert [(record["op"], record["step"], record["ok"]) for record in records if record["ev"] == "applied"] == [
        ("evaluate", 2, True),
        ("save", 2, True),
        ("dance", 4, False),
    ]
    assert [reply[:2] for reply in link.replies] == [("a", True), ("b", True), ("c", False)]
    assert [record["step"] for record in records if record["ev"] == "eval"] == [2]
    assert [(record["step"], record["complete"]) for record in records if record["ev"] == "checkpoint"] == [(2, True)]
    assert "unknown op 'dance'; this trainer takes set, pause" in link.replies[2][2]


@pytest.mark.parametrize("save", [True, False])
def test_stop_ends_at_its_boundary_with_or_without_a_checkpoint(tiny_model: Path, workspace: Path, save: bool) -> None:
    planned = {3: [{"id": "a", "op": "stop", "args": {"save": save}, "by": "ada"}]}
    records, _, stop = train(workspace, recipe(tiny_model), planned)
    assert len(losses(records)) == 3
    assert [record["step"] for record in records if record["ev"] == "checkpoint"] == ([3] if save else [])
    assert stop.save is save
    assert next(record for record in records if record["ev"] == "state" and record["s"] == "stopping")["why"] == "stop by ada"


def test_a_stop_where_a_checkpoint_was_just_made_does_not_make_it_again(tiny_model: Path, workspace: Path) -> None:
    text = recipe(tiny_model, training=", save_steps: 3").replace("save_strategy: 'no'", "save_strategy: steps")
    records, _, _ = train(workspace, text, {3: [{"id": "a", "op": "stop"}]})
    assert [record["step"] for record in records if record["ev"] == "checkpoint"] == [3]


def test_tokens_are_counted_without_padding_and_memory_is_told_on_a_gpu_only(tiny_model: Path, workspace: Path) -> None:
    import torch

    records, _, _ = train(workspace, recipe(tiny_model), {})
    metrics = [record for record in records if record["ev"] == "metrics"]
    assert metrics[-1]["tokens"] == metrics[-1]["num_tokens"], "TRL counts the same while nothing is resumed"
    assert [record["step"] for record in metrics] == [1, 2, 3, 4, 5, 6]
    assert all(record["max_steps"] == 6 and record["tokens_per_second"] > 0 and record["step_ms"] > 0 for record in metrics)
    assert (metrics[0]["mem"] is None) == (not torch.cuda.is_available())
    assert {"grad_norm", "learning_rate", "entropy", "mean_token_accuracy"} <= set(metrics[0])


def test_kto_trains_on_labelled_answers(tiny_model: Path, workspace: Path) -> None:
    rows = [{"q": f"the cat {number}", "a": "sat on the mat", "good": number % 2 == 0} for number in range(12)]
    (workspace / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    records, _, _ = train(workspace, recipe(tiny_model, "kto", "{prompt: q, completion: a, label: good}"), {})
    assert len(losses(records)) == 6
    with pytest.raises(UserError, match="needs a `label`"):
        build(workspace, recipe(tiny_model, "kto", "{prompt: q, completion: a}"))


PAIRS = [{"q": f"the cat {number}", "good": "sat on the mat", "bad": "ran to the sea"} for number in range(16)]
PAIR_COLUMNS = "{prompt: q, chosen: good, rejected: bad}"


@pytest.mark.parametrize("task", ["dpo", "reward"])
def test_preferences_train_a_policy_or_a_judge(tiny_model: Path, workspace: Path, task: str) -> None:
    (workspace / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    records, _, _ = train(workspace, recipe(tiny_model, task, PAIR_COLUMNS), {})
    assert losses(records)[-1] < losses(records)[0]
    assert records[-1]["tokens"] == records[-1]["num_tokens"]
    assert ("rewards/margins" if task == "dpo" else "margin") in records[-1]


def test_dpo_goes_on_with_the_adapter_of_an_earlier_run(tiny_model: Path, workspace: Path) -> None:
    """The adapter is trained in place, in float32, and what it was is the reference: the first loss is ln 2."""
    import torch

    built, run = build(workspace, recipe(tiny_model))
    built.trainer.save_model(str(run.adapter))
    (workspace / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    text = recipe(tiny_model, "dpo", PAIR_COLUMNS).replace("dtype: float32", f"dtype: bfloat16, adapter: {run.adapter}")
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("peft:"))
    records, _, _ = train(workspace, text, {})
    assert losses(records)[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses(records)[-1] < losses(records)[0]
    model = build(workspace, text)[0].trainer.model
    assert {parameter.dtype for parameter in model.parameters() if parameter.requires_grad} == {torch.float32}


def test_rows_that_trl_drops_or_cuts_are_told(tiny_model: Path, workspace: Path) -> None:
    from tuitune.trainer.prepared import describe, warnings

    built, _ = build(workspace, recipe(tiny_model).replace("max_length: 64", "max_length: 24"))
    data = describe(built)
    assert data["dropped"] == 48 - data["sequences"] > 0
    assert [warning.split(":")[0] for warning in warnings(data)] == [
        f"{data['dropped']} of 48 rows were left out",
        f"{data['at_max_length']} of 48 rows fill max_length 24; what is longer was cut off. Raise it to keep all",
    ]
    assert warnings(describe(build(workspace, recipe(tiny_model))[0])) == []


def test_tool_calls_of_different_shape_stay_as_they_are(tiny_model: Path, workspace: Path) -> None:
    def talk(arguments: Any) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        return {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes", "tool_calls": [call]}]}

    rows = [talk({"a": 1}), talk({"b": "x"}), talk({})]
    (workspace / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    built, _ = build(workspace, recipe(tiny_model, columns="{messages: messages}"))
    assert [row["messages"] for row in built.trainer.train_dataset] == [row["messages"] for row in rows]


def test_conversations_without_a_chat_template_are_refused_with_the_remedy(tiny_model: Path, workspace: Path) -> None:
    bare = workspace / "bare"
    bare.mkdir()
    for path in tiny_model.iterdir():
        if path.name != "chat_template.jinja":
            (bare / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"no chat template.*tokenizer\.chat_template"):
        build(workspace, recipe(bare))


def test_what_a_library_refuses_is_its_own_sentence_and_no_traceback(tiny_model: Path, workspace: Path) -> None:
    with pytest.raises(UserError, match=r"SFTTrainer refuses.*nothing_here"):
        build(workspace, recipe(tiny_model).replace("all-linear", "[nothing_here]"))
    with pytest.raises(UserError, match=r"recipe\.yaml:\d+: SFTConfig refuses"):
        build(workspace, recipe(tiny_model, training=", eval_strategy: epoch, load_best_model_at_end: true"))


def test_the_same_data_has_the_same_hash_and_other_data_another(tiny_model: Path, workspace: Path) -> None:
    from tuitune.trainer.prepared import describe

    text = recipe(tiny_model)
    first, again = (describe(build(workspace, text)[0]) for _ in range(2))
    assert first == again
    shorter = describe(build(workspace, text.replace("max_length: 64", "max_length: 24"))[0])
    assert shorter["sha256"] != first["sha256"]
    assert shorter["fingerprint"] == first["fingerprint"]
    assert shorter["tokens"] < first["tokens"]
    assert 0 < shorter["at_max_length"] <= 48
    assert 0 < first["trained_tokens"] < first["tokens"]
