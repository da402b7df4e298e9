"""What counts as right, and how a person says what is to be measured."""

import re

import pytest

from tuitune.after.metrics import Wanted, chosen, exact, extracted, matches, parse_metrics
from tuitune.errors import UserError

GSM8K = re.compile("#### (.*)")


def test_an_exact_answer_is_the_gold_one_but_for_the_blanks_round_it() -> None:
    assert exact(" 42\n", "42")
    assert not exact("42.", "42")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("16 - 3 - 4 = 9\n#### 18", "18"),
        ("#### 18\n", "18"),
        ("#### $1,200.00", "1200"),
        ("#### -5.", "-5"),
        ("#### +7", "7"),
        ("#### 0.50", "0.5"),
        ("#### 100", "100"),
        ("#### 18\n\n#### 19", "18"),
        ("#### 18 dollars", "18 dollars"),
        ("#### ", ""),
        ("the answer is 18", None),
    ],
)
def test_a_pattern_finds_the_first_answer_and_numbers_are_read_as_numbers(text: str, found: str | None) -> None:
    assert extracted(GSM8K, text) == found


def test_without_a_group_the_pattern_itself_is_the_answer() -> None:
    assert extracted(re.compile("yes|no"), "well, no") == "no"


def test_answers_match_when_the_pattern_finds_the_same_and_none_is_never_right() -> None:
    assert matches(GSM8K, "so #### 1,000", "#### 1000")
    assert not matches(GSM8K, "so 1000", "#### 1000")
    assert not matches(GSM8K, "so 1000", "1000")


def test_the_choice_is_the_least_surprising_one_by_sum_or_by_byte() -> None:
    assert chosen([6.0, 5.0, 5.0]) == 1
    assert chosen([6.0, 5.0], [12, 2]) == 0


@pytest.mark.parametrize(
    ("text", "answer_regex", "wanted"),
    [
        (None, None, None),
        ("nll, exact", None, Wanted(("nll", "exact"))),
        ("nll,exact,regex=#### (.*),choice", None, Wanted(("nll", "exact", "regex", "choice"), "#### (.*)")),
        (r"regex=(\d{1,3})", None, Wanted(("regex",), r"(\d{1,3})")),
        (r"exact,regex=a, (b),nll,choice", None, Wanted(("exact", "regex", "nll", "choice"), "a, (b)")),
        (None, "#### (.*)", Wanted(("nll", "regex"), "#### (.*)")),
        ("exact", "#### (.*)", Wanted(("exact", "regex"), "#### (.*)")),
    ],
)
def test_metrics_are_named_with_commas_and_the_pattern_may_hold_some(
    text: str | None, answer_regex: str | None, wanted: Wanted | None
) -> None:
    assert parse_metrics(text, answer_regex) == wanted


@pytest.mark.parametrize(
    ("text", "answer_regex", "words"),
    [
        ("bleu", None, "'bleu' is no metric; there are nll, exact, regex=PATTERN and choice"),
        ("regex", None, "'regex' is no metric"),
        ("regex=", None, "regex needs its pattern"),
        ("regex=(", None, "no regular expression"),
        ("regex=(a)(b)", None, "has 2 groups"),
        ("regex=a", "b", "give one"),
    ],
)
def test_what_is_no_metric_is_wrong_usage_with_the_right_words(text: str, answer_regex: str | None, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)) as raised:
        parse_metrics(text, answer_regex)
    assert raised.value.exit_code == 2
