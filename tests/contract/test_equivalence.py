"""When two models count as the same: known differences of logits, ties, and the sentence for each."""

import json
from collections.abc import Sequence

import pytest
import torch

from tuitune.after.equivalence import Difference, Spoken, difference, judge
from tuitune.errors import UserError


def spoken(answers: Sequence[Sequence[int]], *logits: list[list[float]]) -> Spoken:
    return Spoken([list(answer) for answer in answers], [torch.tensor(one) for one in logits])


ONE = [[2.0, 0.0, -2.0], [1.0, 0.9, -1.9]]  # two tokens of an answer over a vocabulary of three


def test_the_same_logits_differ_by_nothing() -> None:
    found = difference(spoken([[0, 0]], ONE), spoken([[0, 0]], ONE))
    assert (found.largest, found.mean, found.relative, found.agree, found.same) == (0.0, 0.0, 0.0, 1.0, 1)
    assert found.kl == pytest.approx(0.0, abs=1e-7)
    assert judge(found, "bfloat16", 2)["passed"]


def test_differences_are_measured_at_each_token() -> None:
    other = [[2.0, 0.0, -2.0], [0.8, 1.1, -1.9]]
    found = difference(spoken([[0, 0]], ONE), spoken([[0, 1]], other))
    assert found.largest == pytest.approx(0.2)
    assert found.mean == pytest.approx(0.4 / 6)
    assert found.spread == pytest.approx(((8 + 1 + 0.81 + 3.61) / 6) ** 0.5)
    p, q = torch.tensor(ONE[1]).softmax(-1), torch.tensor(other[1]).softmax(-1)
    assert found.kl == pytest.approx(float((p * (p / q).log()).sum()) / 2, rel=1e-4)
    assert found.agree == 0.5
    assert found.parted is not None
    (parted,) = found.parted
    assert (parted.prompt, parted.token, parted.margin) == (0, 1, pytest.approx(0.1))


def test_a_shift_of_all_logits_is_no_difference_of_what_is_said() -> None:
    shifted = [[value + 5 for value in row] for row in ONE]
    found = difference(spoken([[0, 0]], ONE), spoken([[0, 0]], shifted))
    assert found.relative == pytest.approx(0.0, abs=1e-6)


def apart(relative: float, margin: float | None) -> Difference:
    found = difference(spoken([[0, 0]], ONE), spoken([[0, 1]], ONE))
    assert found.parted is not None
    return Difference(**{**vars(found), "relative": relative, "parted": (type(found.parted[0])(0, 1, margin),)})


@pytest.mark.parametrize(
    ("relative", "margin", "passed"),
    [
        (0.001, 0.001, True),  # at a tie
        (0.001, 1.0, False),  # the other says something else
        (0.001, None, False),  # the other ends where the reference goes on
        (0.5, 0.001, False),  # logits far apart
    ],
)
def test_greedy_text_may_part_only_at_a_tie(relative: float, margin: float | None, passed: bool) -> None:
    told = judge(apart(relative, margin), "bfloat16", 2)
    assert told["passed"] is passed
    assert told["words"].startswith("logits differ by" if passed else "it does not say what the reference says")
    json.loads(json.dumps(told, allow_nan=False))


def test_an_adapter_that_does_less_than_the_rounding_is_told() -> None:
    told = judge(apart(0.001, 0.001), "bfloat16", 2, effect=0.0015)
    assert told["weak"]
    assert "use --dtype float32" in told["words"]


def test_models_with_different_vocabularies_are_not_compared() -> None:
    with pytest.raises(UserError, match="different vocabularies"):
        difference(spoken([[0]], [[1.0, 2.0]]), spoken([[0]], [[1.0, 2.0, 3.0]]))
