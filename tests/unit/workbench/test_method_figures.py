"""What the dashboard shows of a training method beside its loss."""

import pytest

from tuitune.workbench.run_reduce import reduce
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.run.figures_of import figure_of, other_metrics
from tuitune.workbench.views.run.header import newest_line
from tuitune.workbench.views.run.method_figures import own_metrics

PAIRS = {"loss": 0.69, "rewards/chosen": 0.2, "rewards/rejected": -0.1, "rewards/margins": 0.3, "rewards/accuracies": 0.75}
ANSWERS = {"loss": 0.0, "reward": 0.4, "reward_std": 0.1, "kl": 0.01, "completions/mean_length": 31.0, "completions/max_length": 64.0}


def state_of(logs: dict[str, float], evaluated: dict[str, float] | None = None) -> RunState:
    state = RunState()
    for step in (1, 2):
        reduce(state, {"v": 1, "n": step, "t": float(step), "ev": "metrics", "src": "trainer-1", "step": step, "max_steps": 4, **logs})
    if evaluated:
        reduce(state, {"v": 1, "n": 9, "t": 9.0, "ev": "eval", "src": "trainer-1", "step": 2, "metrics": evaluated})
    return state


@pytest.mark.parametrize(
    ("logs", "shown"),
    [
        ({"loss": 1.0, "grad_norm": 1.0}, {}),
        (PAIRS, {"learning_rate": "rewards", "grad_norm": "rewards/accuracies"}),
        (ANSWERS, {"learning_rate": "reward", "grad_norm": "answer length"}),
        ({"loss": 0.6, "margin": 0.1, "accuracy": 0.6}, {"learning_rate": "margin", "grad_norm": "accuracy"}),
    ],
    ids=["sft", "preferences", "rewarded answers", "reward model"],
)
def test_two_charts_show_what_the_method_is_judged_by(logs: dict[str, float], shown: dict[str, str]) -> None:
    assert own_metrics(logs) == shown


def test_rewards_of_both_answers_are_in_one_chart() -> None:
    figure = figure_of(state_of(PAIRS), "rewards")
    assert [(line.label, list(line.series.ys)) for line in figure.lines] == [
        ("margin", [0.3, 0.3]),
        ("chosen", [0.2, 0.2]),
        ("rejected", [-0.1, -0.1]),
    ]
    assert "rewards" in other_metrics(state_of(PAIRS))
    assert "rewards" not in other_metrics(state_of({"loss": 1.0}))


def test_a_metric_has_its_value_in_evaluations_beside_it() -> None:
    figure = figure_of(state_of(PAIRS, {"eval_rewards/accuracies": 0.5}), "rewards/accuracies")
    assert [(line.label, line.dotted) for line in figure.lines] == [("train", False), ("eval", True)]
    assert [line.label for line in figure_of(state_of(PAIRS), "rewards/accuracies").lines] == [""]


@pytest.mark.parametrize(("logs", "words"), [(PAIRS, "margin 0.3  chosen ahead 0.75"), (ANSWERS, "reward 0.4  reward std 0.1  KL 0.01")])
def test_the_newest_figures_name_them_first(logs: dict[str, float], words: str) -> None:
    assert words in "".join(text for text, _ in newest_line(state_of(logs), 120))
