"""TRL's metrics of a micro-batch in parts: each averaged over what TRL averages it over."""

import pytest

from tuitune.trainer.split_metrics import joined


def part(metrics: dict[str, float], **weights: float) -> object:
    return (lambda _: weights), {}, {name: [value] for name, value in metrics.items()}


@pytest.mark.parametrize(
    ("name", "values", "weights", "whole"),
    [
        ("mean_token_accuracy", (0.5, 1.0), [{"units": 2, "tokens": 30}, {"units": 2, "tokens": 10}], 0.625),
        ("mean_token_accuracy", (0.0, 1.0), [{"units": 1, "tokens": 9, "chosen": 1}, {"units": 1, "tokens": 1, "chosen": 3}], 0.75),
        ("entropy", (2.0, 4.0), [{"units": 1, "tokens": 3, "chosen": 1}, {"units": 3, "tokens": 1, "chosen": 1}], 2.5),
        ("logits/rejected", (2.0, 4.0), [{"units": 1, "rejected": 1}, {"units": 3, "rejected": 1}], 3.0),
        ("rewards/margins", (1.0, 2.0), [{"units": 1, "tokens": 50}, {"units": 3, "tokens": 1}], 1.75),
        ("entropy", (0.0, 3.0), [{"units": 1, "tokens": 0}, {"units": 1, "tokens": 4}], 3.0),
        ("entropy", (0.0, 0.0), [{"units": 1, "tokens": 0}, {"units": 1, "tokens": 0}], 0.0),
        ("min_reward", (-1.0, -3.0), [{"units": 1}, {"units": 1}], -3.0),
        ("max_reward", (-1.0, -3.0), [{"units": 1}, {"units": 1}], -1.0),
    ],
)
def test_the_whole_has_the_average_of_its_parts(
    name: str, values: tuple[float, float], weights: list[dict[str, float]], whole: float
) -> None:
    parts = [part({name: value}, **weight) for value, weight in zip(values, weights, strict=True)]
    assert joined(parts) == {name: [pytest.approx(whole)]}  # type: ignore[arg-type]


def test_one_part_alone_is_not_weighed() -> None:
    assert joined([part({"entropy": 0.1 + 0.2}, units=1)]) == {"entropy": [0.1 + 0.2]}  # type: ignore[list-item]
