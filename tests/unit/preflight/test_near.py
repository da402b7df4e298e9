"""Texts that are nearly the same, or stand in others word for word."""

import pytest

from tuitune.preflight.data.near import WordBook, matches, quotes, similarity, twins

LONG = "the ferry to the old town by the sea takes forty people and two carts on every trip of the day while it rains"


def test_case_punctuation_and_a_word_make_no_other_text() -> None:
    texts = ["something else that is long enough to have some grams", LONG, LONG.upper() + "!", LONG.replace("rains", "snows")]
    assert twins(WordBook().words(texts)) == {2: 1, 3: 1}


def test_half_of_the_words_make_another_text() -> None:
    other = " ".join(word if at % 3 else "x" for at, word in enumerate(LONG.split()))
    assert similarity(LONG, other) < 0.2
    assert twins(WordBook().words([LONG, other])) == {}


def test_what_most_texts_share_does_not_count() -> None:
    texts = [f"{LONG} and the number of the day is {n * n} of {n}" for n in range(40)]
    assert twins(WordBook().words(texts)) == {}


def test_texts_are_matched_with_those_of_another_set() -> None:
    book = WordBook()
    assert matches(book.words(["nothing of the kind at all here", LONG.title()]), book.words(["no", LONG])) == {1: 1}
    assert matches(book.words([]), book.words([LONG])) == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"Question: {LONG}\nAnswer:", {0: 1}),
        (f"Question: {LONG.replace('carts', 'horses')}\nAnswer:", {}),
        ("takes forty people", {}),  # a question may be longer than the text
    ],
)
def test_a_text_of_eight_words_and_more_is_found_inside_another(text: str, found: dict[int, int]) -> None:
    book = WordBook()
    assert quotes(book.words([text]), book.words(["takes forty people", LONG, "and two"])) == found


def test_every_character_of_chinese_is_a_word() -> None:
    text = "渡船每次载四十个人和两辆车去海边的老城"
    assert twins(WordBook().words([text, text[:-1] + "港"])) == {1: 0}
