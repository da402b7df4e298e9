"""Every training method that a recipe can name: a few real steps of a tiny model, its own figures in the journal, orders and resuming."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.support.runs import new_run  # noqa: E402
from tests.support.steered import order, steer  # noqa: E402
from tests.support.tiny_model import write_rows  # noqa: E402
from tuitune.errors import UserError  # noqa: E402
from tuitune.recipe.recipe import load_recipe  # noqa: E402
from tuitune.recipe.tasks import PROMPTED, TASKS  # noqa: E402
from tuitune.trainer.build import build  # noqa: E402

LORA = "peft: {r: 4, lora_alpha: 8, target_modules: all-linear}\n"
REWARDS = """
def letters(completions, answer, **kwargs):
    return [text.count(right[0]) / 10 for text, right in zip(completions, answer)]

def short(completions, **kwargs):
    return [None if not text else -len(text) / 100 for text in completions]
"""
PAIR_LOGS = {"rewards/margins", "rewards/accuracies", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"}
LOGS = {
    "orpo": PAIR_LOGS | {"nll_loss", "log_odds_ratio"},
    "cpo": PAIR_LOGS | {"nll_loss"},
    "grpo": {"reward", "reward_std", "rewards/letters/mean", "rewards/short/mean", "completions/mean_length", "entropy"},
    "rloo": {"reward", "reward_std", "rewards/letters/mean", "kl", "completions/mean_length"},
    "online_dpo": PAIR_LOGS | {"objective/kl", "objective/scores"},
}
OWN = {
    "orpo": ", max_length: 64",
    "cpo": ", max_length: 64, loss_type: simpo, cpo_alpha: 0.0",
    "grpo": ", max_completion_length: 6, num_generations: 2",
    "rloo": ", max_completion_length: 6, num_generations: 2",
    "online_dpo": ", max_length: 64, max_new_tokens: 6",
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    rows = [json.loads(line) for line in write_rows(folder / "train.jsonl", 16).read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"worse": row["answer"][::-1] + " one" * (number % 4)}
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "rewards.py").write_text(REWARDS)
    return folder


def recipe(model: Path, task: str, training: str = ", save_strategy: 'no'", functions: str = "[letters, short]") -> str:
    prompted = task in PROMPTED
    columns = "{prompt: question, answer: answer}" if prompted else "{prompt: question, chosen: answer, rejected: worse}"
    rewards = f"rewards: {{file: rewards.py, functions: {functions}}}\n" if prompted else ""
    return (
        f"task: {task}\nmodel: {{name_or_path: {model}, dtype: float32}}\n{LORA}{rewards}"
        f"dataset:\n  train: [{{path: train.jsonl, columns: {columns}}}]\nlaunch: {{gpus: cpu}}\n"
        "training: {max_steps: 3, learning_rate: 1.0e-3, logging_steps: 1, per_device_train_batch_size: 2, gradient_accumulation_steps: 2, "
        f"seed: 7{OWN.get(task, '')}{training}}}\n"
    )


def build_beside(workspace: Path, text: str) -> Any:
    """What a run of this recipe builds."""
    folder = workspace / "built"
    folder.mkdir(exist_ok=True)
    run = new_run(folder, text)
    return build(load_recipe(run.recipe, base=workspace), run)


def weights(trainer: Any) -> dict[str, Any]:
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("task", LOGS)
def test_a_method_trains_and_tells_its_own_figures(tiny_model: Path, workspace: Path, task: str) -> None:
    faster = order("set", key="learning_rate", value=2e-3)
    done = steer(workspace, recipe(tiny_model, task, ", save_strategy: steps, save_steps: 2"), {1: [faster]})
    logs = done.told("metrics")
    assert [record["step"] for record in logs] == [1, 2, 3]
    assert LOGS[task] <= set(logs[-1])
    assert all(isinstance(record["loss"], float) and record["loss"] == record["loss"] for record in logs)
    assert done.link.replies[0]["ok"], "an order is carried out at the boundary"
    assert [record["step"] for record in done.told("checkpoint")] == [2, 3]
    assert any("lora_B" in name and bool(weight.any()) for name, weight in weights(done.trainer).items())
    assert not done.told("alarm")


def test_other_reward_functions_than_the_run_has_learnt_by_are_told_when_it_goes_on(tiny_model: Path, workspace: Path) -> None:
    from tuitune.runs.manifest import Manifest
    from tuitune.trainer.prepared import describe
    from tuitune.trainer.resuming import changed_rewards

    text = recipe(tiny_model, "grpo").replace("rewards.py", "mended.py")
    file = workspace / "mended.py"
    file.write_text(REWARDS)
    built = build_beside(workspace, text)
    manifest = Manifest("x")
    assert changed_rewards(manifest, built.recipe) is None, "a run of before, which has no hash"
    manifest.take({"ev": "data", **describe(built)})
    assert changed_rewards(manifest, built.recipe) is None
    file.write_text(REWARDS.replace("/ 10", "/ 20"))
    told = changed_rewards(manifest, built.recipe)
    assert told is not None
    assert re.search(r"reward functions have changed: .*mended\.py was [0-9a-f]{12}… and is [0-9a-f]{12}…", told)


def test_a_task_without_rewards_has_no_hash_of_them(tiny_model: Path, workspace: Path) -> None:
    from tuitune.trainer.prepared import describe

    assert describe(build_beside(workspace, recipe(tiny_model, "orpo")))["rewards_sha256"] is None


def test_tokens_of_answers_written_while_training_are_counted(tiny_model: Path, workspace: Path) -> None:
    done = steer(workspace, recipe(tiny_model, "grpo"))
    last = done.told("metrics")[-1]
    assert last["tokens"] == last["num_tokens"], "TRL's own count of prompts and answers"
    assert last["tokens_per_second"] > 0


def test_tokens_that_a_trainer_does_not_show_make_no_speed(tiny_model: Path, workspace: Path) -> None:
    done = steer(workspace, recipe(tiny_model, "online_dpo"))
    assert done.told("metrics")[-1]["tokens_per_second"] is None


@pytest.mark.parametrize("task", ["orpo", "grpo"])
def test_a_resumed_method_goes_on_as_if_it_had_never_stopped(tiny_model: Path, workspace: Path, task: str) -> None:
    text = recipe(tiny_model, task, ", save_strategy: steps, save_steps: 1")
    whole = steer(workspace, text)
    again = steer(workspace, text, resume=whole.checkpoint(2))
    assert again.each("loss") == whole.each("loss")[2:]
    expected = weights(whole.trainer)
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(again.trainer).items())


def test_a_batch_of_groups_is_not_changed_while_the_run_lives(tiny_model: Path, workspace: Path) -> None:
    done = steer(workspace, recipe(tiny_model, "grpo"), {1: [order("reshape", per_device_train_batch_size=4)]})
    assert not done.link.replies[0]["ok"]
    assert "groups of answers" in done.link.replies[0]["error"]
    assert len(done.told("metrics")) == 3


@pytest.mark.parametrize("task", ["orpo", "grpo"])
def test_memory_that_runs_out_is_told_with_why_nothing_is_split(tiny_model: Path, workspace: Path, task: str) -> None:
    def small(trainer: Any) -> None:
        inner = trainer.compute_loss

        def refuse(*args: Any, **kwargs: Any) -> Any:
            if trainer.state.global_step == 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return inner(*args, **kwargs)

        trainer.compute_loss = refuse

    with pytest.raises(torch.OutOfMemoryError) as raised:
        steer(workspace, recipe(tiny_model, task), touch=small)
    assert "no sum over rows" in raised.value.__notes__[0]
    newest = max((workspace / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
    told = [json.loads(line) for line in (newest / "journal" / "trainer-1.jsonl").read_text().splitlines()]
    (oom,) = [record for record in told if record["ev"] == "oom"]
    assert (oom["step"], oom["micro"], oom["retry"]) == (2, 1, None)


@pytest.mark.parametrize(
    ("source", "functions", "words"),
    [
        (
            "def letters(completions, **kwargs):\n    return [1 / 0]\n",
            "[letters]",
            "rewards.py:2: the reward function letters fails: Zero",
        ),
        ("def letters(completions, **kwargs):\n    return [1.0]\n", "[letters]", "returned 1 rewards for 4 completions"),
        ("def letters(completions, **kwargs):\n    return ['a'] * 4\n", "[letters]", "returned 'a', where a finite number"),
        ("import nothing_like_it\n", "[letters]", "rewards.py:1: the reward file fails while it is loaded: ModuleNotFound"),
        ("def letters(:\n", "[letters]", "rewards.py:1: the reward file does not parse"),
        ("def other(**kwargs): ...\n", "[letters]", "has no function letters; it has other"),
    ],
)
def test_what_is_wrong_in_the_reward_file_is_said_with_its_place(
    tiny_model: Path, workspace: Path, tmp_path: Path, source: str, functions: str, words: str
) -> None:
    (tmp_path / "train.jsonl").write_bytes((workspace / "train.jsonl").read_bytes())
    (tmp_path / "rewards.py").write_text(source)
    with pytest.raises(UserError) as raised:
        steer(tmp_path, recipe(tiny_model, "grpo", functions=functions))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_online_dpo_says_that_it_has_no_evaluation(tiny_model: Path, workspace: Path) -> None:
    evaluation = "  eval: [{path: train.jsonl, columns: {prompt: question, answer: answer}}]\nlaunch:"
    text = recipe(tiny_model, "online_dpo", ", eval_strategy: steps").replace("launch:", evaluation)
    with pytest.raises(UserError, match="OnlineDPOTrainer has no evaluation; remove eval_strategy"):
        steer(workspace, text)


def test_trl_has_every_class_that_a_task_stands_for() -> None:
    from tuitune.trainer.methods import method_for

    for task in TASKS:
        method = method_for(task)
        assert issubclass(method.config, __import__("transformers").TrainingArguments)
        assert method.rewarded == (task in PROMPTED)
    with pytest.raises(UserError, match="task gkd: it learns from a second model"):
        method_for("gkd")
