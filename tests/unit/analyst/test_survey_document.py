"""The survey in words and as the page of the token view."""

import msgspec
import pytest

from tuitune.analyst.survey_document import Histogram, Packing, Survey, sentences, survey_json
from tuitune.workbench.views.tokens.figures import LABEL, faulty, page, roles, short

CLEAN = Survey(
    total=1000,
    looked=1000,
    prepared_by="quick",
    difference="",
    max_length=2048,
    tokens=200_000,
    lost=0,
    trained=50_000,
    longest=700,
    longest_row=12,
    by_role={"user": 120_000, "assistant": 50_000, "template": 30_000},
    histograms={"all": Histogram(50, [0, 0, *[10] * 13]), "user": Histogram(50, [1]), "assistant": Histogram(5, [9] * 30)},
    counts=dict.fromkeys(("truncated", "dropped", "masked", "duplicate", "overlap"), 0),
    faults={},
    packing=None,
    sha256="0" * 64,
    seconds={},
)
PACKED = msgspec.structs.replace(CLEAN, packing=Packing("bfd", 100, 2048, 200_000, 3, "no", "tried with sdpa: rows see each other"))


def changed(**fields: object) -> Survey:
    return msgspec.structs.replace(CLEAN, **fields)


def text(lines: list) -> list[str]:
    return ["".join(piece for piece, _ in line) for line in lines]


def test_a_clean_set_is_told_in_three_lines() -> None:
    assert sentences(CLEAN) == [
        "1,000 rows: 200,000 tokens, 25 % in the loss, longest 700 (row 12)",
        "by role: user 60 %, assistant 25 %, template 15 %",
        "no row is cut, dropped, there twice or without anything in the loss",
    ]


def test_a_sample_is_called_a_sample() -> None:
    assert sentences(changed(total=9000))[0].startswith("a sample of 1,000 of 9,000 rows: ")
    assert text([short(changed(total=9000))])[0].startswith("sample of 1,000 of 9,000 rows · ")


def test_faults_are_counted_in_words() -> None:
    counts = {"truncated": 1, "dropped": 2, "masked": 0, "duplicate": 0, "overlap": 1}
    assert sentences(changed(counts=counts, lost=70))[2] == (
        "1 row is cut at max_length; 2 rows are not trained on at all; 1 row is also in dataset.eval; 70 tokens are never trained on"
    )
    assert faulty(changed(counts=counts)) == ["truncated", "dropped", "overlap"]


def test_packing_says_fill_waste_and_whether_rows_see_each_other() -> None:
    assert sentences(PACKED)[3:] == [
        "packing bfd: 100 sequences of 2,048, 98 % full, room for 4,800 tokens unused, 3 rows are in more than one",
        "rows kept apart: no (tried with sdpa: rows see each other)",
    ]
    assert survey_json(PACKED)["packing"]["wasted"] == 4_800


def test_a_difference_from_trl_is_the_last_word() -> None:
    assert sentences(changed(difference="ids differ", prepared_by="trl"))[-1].startswith(
        "ids differ; so all rows were prepared by TRL itself"
    )


@pytest.mark.parametrize("height", [12, 24, 60])
@pytest.mark.parametrize("width", [40, 74, 150])
def test_every_row_is_in_one_bar_and_the_page_fits(width: int, height: int) -> None:
    lines = text(page(CLEAN, "all", width, height))
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    bars = [line for line in lines if "–" in line[:LABEL]]
    assert sum(int(line.split("▇")[-1].split()[-1].replace(",", "")) for line in bars) == 130
    assert lines[-1] == "no row comes near max_length 2,048"


def test_the_line_of_max_length_is_on_the_bar_it_falls_into() -> None:
    lines = text(page(changed(max_length=333), "all", 100, 40))
    (marked,) = [line for line in lines if "◂ max_length" in line]
    assert marked.strip().startswith("300–349")


def test_roles_come_by_their_share_and_have_no_line_of_max_length() -> None:
    assert roles(CLEAN) == ["all", "user", "assistant", "template"]
    lines = text(page(CLEAN, "assistant", 100, 60))
    assert any("tokens a row: assistant" in line for line in lines)
    assert not any("max_length" in line for line in lines[4:])


def test_nothing_at_all_is_told_without_a_fault() -> None:
    empty = changed(total=0, looked=0, tokens=0, trained=0, by_role={}, histograms={"all": Histogram(1, [])}, longest=0, longest_row=-1)
    assert text(page(empty, "all", 80, 20))
