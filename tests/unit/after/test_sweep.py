"""What a sweep tries, which runs it stops early, and the table."""

from pathlib import Path
from typing import Any

import pytest

from tuitune.after.sweep_grid import grid, point_text
from tuitune.after.sweep_table import (
    Goal,
    Trial,
    best_of,
    document,
    goal_of,
    median_rule,
    page,
    read_table,
    worse_than_median,
    write_table,
)
from tuitune.errors import UserError
from tuitune.recipe.document import parse
from tuitune.runs.directory import RunDirectory

RECIPE = "task: sft\ntraining:  # of the trainer\n  learning_rate: 1.0e-3  # varied\nlaunch: {gpus: cpu}\n"


def trial(number: int, *values: float, metric: str = "eval_loss", goal: Goal = "min") -> Trial:
    made = Trial(number, {"training.learning_rate": number}, run=f"run-{number}")
    for step, value in enumerate(values, 1):
        made.curve.add(10 * step, value)
    made.look(metric, goal)
    return made


def test_every_combination_is_tried_in_the_order_in_which_it_was_written() -> None:
    assert grid(["training.learning_rate=1e-4,2e-4", "peft.r=8,16"]) == [
        {"training.learning_rate": 1e-4, "peft.r": 8},
        {"training.learning_rate": 1e-4, "peft.r": 16},
        {"training.learning_rate": 2e-4, "peft.r": 8},
        {"training.learning_rate": 2e-4, "peft.r": 16},
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("training.packing=true,false", [True, False]),
        ("training.optim=adamw_torch", ["adamw_torch"]),
        ("peft.target_modules=[q_proj, v_proj],all-linear", [["q_proj", "v_proj"], "all-linear"]),
        ("training.learning_rate=1e-4,1e-4", [1e-4]),
    ],
)
def test_values_are_those_of_yaml(written: str, expected: list[Any]) -> None:
    assert [next(iter(point.values())) for point in grid([written])] == expected


@pytest.mark.parametrize(
    "written", [["learning_rate=1"], ["training.learning_rate"], ["training.learning_rate="], ["a.b=1", "a.b=2"], ["a.b=[1"], []]
)
def test_words_that_name_no_values_are_wrong_usage(written: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        grid(written)
    assert raised.value.exit_code == 2


def test_a_point_changes_its_values_and_nothing_else() -> None:
    text = point_text(RECIPE, {"training.learning_rate": 2e-4, "peft.r": 4}, wait=True)
    assert parse(text).data == {
        "task": "sft",
        "training": {"learning_rate": 2e-4},
        "launch": {"gpus": "cpu", "wait": True},
        "peft": {"r": 4},
    }
    assert "# of the trainer" in text
    assert "# varied" in text


def left(made: Trial, step: int, metric: str = "eval_loss", goal: Goal = "min") -> Trial:
    """The trial when it has ended with the weights of that step."""
    made.left = step
    made.look(metric, goal)
    return made


def test_what_a_run_leaves_counts_not_the_best_evaluation_on_its_way() -> None:
    made = left(trial(1, 3.0, 1.0, 2.0), 30)
    assert (made.value, made.step) == (2.0, 30)
    assert (made.best, made.best_step) == (1.0, 20)
    assert trial(1, 0.9, 0.1, metric="eval_accuracy", goal="max").best == 0.9


def test_a_run_that_went_back_to_its_best_checkpoint_leaves_that_one() -> None:
    made = left(trial(1, 3.0, 1.0, 2.0), 20)
    assert (made.value, made.step) == (1.0, 20)


def test_of_training_logs_the_average_counts() -> None:
    assert trial(1, 3.0, 1.0, 2.0, metric="loss").value == 2.0
    assert left(trial(1, 3.0, 1.0, 8.0, metric="loss"), 20, "loss").value == 2.0
    assert trial(1, 3.0, 1.0, 2.0, metric="loss").best is None
    assert trial(1, float("nan")).value is None


def test_the_run_with_the_best_result_wins_over_one_that_was_better_on_its_way() -> None:
    overfits, learns = left(trial(1, 3.0, 0.5, 2.0), 30), left(trial(2, 3.0, 2.0, 1.0), 30)
    table = document([overfits, learns], "eval_loss", "min", None)
    assert table["best"] == 2
    assert table["trials"][0]["best"] == 0.5
    assert "- run-1: its best evaluation was 0.5 at step 20" in page(table).splitlines()
    assert "run-2: " not in page(table)


def test_a_figure_of_earlier_weights_than_those_left_says_so() -> None:
    made = left(trial(1, 3.0, 2.0), 25)
    assert "- run-1: its figure is of step 20, what it leaves is of step 25" in page(document([made], "eval_loss", "min", None))


@pytest.mark.parametrize(
    ("metric", "goal"), [("eval_loss", "min"), ("loss", "min"), ("eval_rewards/margins", "max"), ("reward", "max"), ("kl", "min")]
)
def test_a_metric_says_by_its_name_what_is_better(metric: str, goal: str) -> None:
    assert goal_of(metric) == goal
    assert goal_of(metric, "max") == "max"


def test_where_the_name_does_not_say_it_somebody_must() -> None:
    with pytest.raises(UserError, match="--goal min or --goal max"):
        goal_of("entropy")


def test_a_run_is_stopped_when_its_best_is_worse_than_the_others_median_at_that_step() -> None:
    others = [trial(2, 2.0, 1.0, 0.1), trial(3, 2.1, 1.2, 0.1), trial(4, 2.0)]
    assert (
        worse_than_median(trial(1, 3.0, 2.5), others, 2, "min")
        == "stopped at step 20: its best, 2.5, is worse than the others' median there, 1.2"
    )
    assert worse_than_median(trial(1, 3.0, 1.1), others, 2, "min") is None
    assert worse_than_median(trial(1, 3.0), others, 2, "min") is None, "too early to say"
    assert worse_than_median(trial(1, 3.0, 2.5), others[:1], 2, "min") is None, "one other is no median"
    assert worse_than_median(trial(1, 3.0, 2.5), others, 2, "max") is None


def test_the_rule_is_said_in_two_words() -> None:
    assert (median_rule(None), median_rule("none"), median_rule("median"), median_rule("median:5")) == (None, None, 3, 5)
    for wrong in ("best", "median:0", "median:x"):
        with pytest.raises(UserError, match="takes none, median or median:K"):
            median_rule(wrong)


def test_the_table_has_the_best_first_and_says_what_was_stopped(tmp_path: Path) -> None:
    trials = [trial(1, 2.0), trial(2, 1.0), Trial(3, {"training.learning_rate": 3})]
    trials[0].verdict = "stopped at step 10"
    lost = trial(4, 0.5)
    lost.state = "failed"
    assert best_of([*trials, lost], "min") == trials[1], "a run that failed leaves no model"
    table = document(trials, "eval_loss", "min", "median")
    assert (table["best"], best_of(trials, "min")) == (2, trials[1])
    lines = page(table).splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| run-") or line.startswith("| - ")] == [
        "run-2 **best**",
        "run-1",
        "-",
    ]
    assert lines[-1] == "- run-1: stopped at step 10"
    run = RunDirectory(tmp_path)
    with pytest.raises(UserError, match="has no table yet"):
        read_table(run)
    assert [path.name for path in write_table(run, table)] == ["sweep.json", "sweep.md"]
    assert read_table(run) == table
