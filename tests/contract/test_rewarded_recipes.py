"""What a recipe of a rewarded task says, by the installed TRL's options: section, columns, what is refused and what is not known."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuitune.dataset.load import load_split
from tuitune.errors import UserError
from tuitune.preflight.rewards import reward_file
from tuitune.recipe.document import parse
from tuitune.recipe.recipe import load_recipe
from tuitune.recipe.schema import Schema, load_schema
from tuitune.recipe.unbuilt import unbuilt
from tuitune.recipe.validate import validate

REWARDS = "rewards: {file: rewards.py, functions: [right]}\n"


@pytest.fixture(scope="module")
def schema() -> Schema:
    return load_schema()


def recipe(columns: str = "{user: question, gold: answer}", rewards: str = REWARDS, task: str = "grpo") -> str:
    return (
        f"task: {task}\nmodel: {{name_or_path: model}}\n{rewards}"
        f"dataset:\n  train: [{{path: rows.jsonl, columns: {columns}}}]\ntraining: {{max_steps: 2}}\n"
    )


def problems(schema: Schema, text: str) -> list[tuple[str, str]]:
    return [(problem.code, problem.message) for problem in validate(parse(text), schema) if problem.code != "RCP019"]


@pytest.mark.parametrize("task", ["grpo", "rloo", "online_dpo"])
def test_prompts_with_columns_for_the_rewards_are_right(schema: Schema, task: str) -> None:
    assert problems(schema, recipe(task=task)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (recipe(rewards=""), "task grpo needs a section `rewards:`"),
        (recipe("{question: question}"), "map `user` (a conversation), or `prompt`"),
        (recipe("{user: question, assistant: answer}"), "grpo writes the answers itself"),
        (recipe(rewards="rewards: {file: rewards.py}\n"), "`functions:` is missing in `rewards`"),
        (recipe("{user: question, assistant: answer}", task="sft"), "section `rewards:` has no effect on task sft"),
        (recipe("{user: question, assistant: answer, gold: answer}", REWARDS, "sft"), "no column target"),
        (recipe("{user: question, assistant: answer}", "", "orpo"), "task orpo needs columns for `chosen` and `rejected`"),
    ],
)
def test_what_does_not_fit_is_said(schema: Schema, text: str, words: str) -> None:
    assert any(words in message for _, message in problems(schema, text)), problems(schema, text)


def test_rows_are_prompts_and_what_the_rewards_are_to_see(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "2 + 2?", "answer": {"n": 4}, "rules": "Be brief."}\n')
    columns = {"user": "question", "system": "rules", "gold": "answer"}
    split = load_split([{"path": str(tmp_path / "rows.jsonl"), "columns": columns}])
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    assert split.rows == [{"prompt": prompt, "gold": {"n": 4}}]
    assert split.format == "prompt (conversational)"


def test_the_file_is_looked_for_beside_the_recipe(schema: Schema, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe())
    loaded = load_recipe(tmp_path / "recipe.yaml", schema=schema)
    assert loaded.rewards == {"file": str(tmp_path / "rewards.py"), "functions": ["right"]}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def right(completions, **kwargs): ...\n", None),
        ("from trl.rewards import think_format_reward as right\n", None),
        ("import os\nos._exit(1)\ndef rigth(completions, **kwargs): ...\n", "defines no function right: is rigth meant?"),
        ("def right(:\n", "cannot be read as Python (line 1"),
        (None, "No such file"),
    ],
)
def test_preflight_reads_the_reward_file_and_runs_nothing_of_it(
    schema: Schema, tmp_path: Path, source: str | None, words: str | None
) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe())
    if source is not None:
        (tmp_path / "rewards.py").write_text(source)
    context: Any = SimpleNamespace(recipe=load_recipe(tmp_path / "recipe.yaml", schema=schema), at=lambda *path: path)
    found = [finding.message for finding in reward_file(context)]
    assert [words in message for message in found if words] == ([True] if words else [])
    assert bool(found) == (words is not None)


@pytest.mark.parametrize(("task", "words"), [("grpo", "the cache of the answers"), ("orpo", "the logits of all positions")])
def test_a_memory_plan_says_what_it_does_not_count(schema: Schema, tmp_path: Path, task: str, words: str) -> None:
    from tuitune.planning import plan_recipe

    columns = "{user: question}" if task == "grpo" else "{prompt: p, chosen: c, rejected: r}"
    (tmp_path / "recipe.yaml").write_text(recipe(columns, REWARDS if task == "grpo" else "", task))
    with pytest.raises(UserError, match=f"no memory plan for task {task}: it does not count {words}"):
        plan_recipe(load_recipe(tmp_path / "recipe.yaml", schema=schema), schema, None)


def test_every_task_of_the_installed_trl_is_trained_or_refused_with_a_reason(schema: Schema) -> None:
    from tuitune.recipe.tasks import TASKS, WHY_NOT

    assert set(schema.tasks) <= set(TASKS) | set(WHY_NOT)
    for task in set(schema.tasks) - set(TASKS):
        (refused,) = unbuilt({"task": task})
        assert (refused.severity, WHY_NOT[task] in refused.message) == ("error", True)
