"""Sources to one split: order, weights, places, fingerprint."""

import json
from pathlib import Path
from typing import Any

import pytest

from tuitune.dataset.load import load_split
from tuitune.errors import UserError


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def first(tmp_path: Path) -> str:
    return write(tmp_path / "first.jsonl", [{"text": f"a{number}"} for number in range(10)])


@pytest.fixture
def second(tmp_path: Path) -> str:
    return write(tmp_path / "second.jsonl", [{"body": f"b{number}"} for number in range(4)])


def texts(sources: list[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in load_split(sources).rows]


def test_sources_follow_each_other_each_with_its_own_columns(first: str, second: str) -> None:
    split = load_split([{"path": first, "max_rows": 2}, {"path": second, "columns": {"text": "body"}}])
    assert [row["text"] for row in split.rows] == ["a0", "a1", "b0", "b1", "b2", "b3"]
    assert split.places[0] == (first, 1)
    assert split.places[3] == (second, 2)
    assert split.columns == [{"text": "text"}, {"text": "body"}]
    assert split.format == "text (text)"


def test_a_weight_repeats_whole_rows_and_samples_the_rest_the_same_way_every_time(first: str) -> None:
    assert len(texts([{"path": first, "weight": 2.5}])) == 25
    half = texts([{"path": first, "weight": 0.5}])
    assert len(set(half)) == 5
    assert half == texts([{"path": first, "weight": 0.5}])
    assert texts([{"path": first, "weight": 1}]) == [f"a{number}" for number in range(10)]


def test_the_fingerprint_is_of_the_rows_and_not_of_their_files(first: str, tmp_path: Path) -> None:
    copy = write(tmp_path / "copy.jsonl", [{"text": f"a{number}", "extra": 1} for number in range(10)])
    fingerprint = load_split([{"path": first}]).fingerprint()
    assert len(fingerprint) == 64
    assert load_split([{"path": copy}]).fingerprint() == fingerprint
    assert load_split([{"path": first, "max_rows": 9}]).fingerprint() != fingerprint


def test_sources_of_different_shape_do_not_mix(first: str, tmp_path: Path) -> None:
    talk = write(tmp_path / "talk.jsonl", [{"question": "a", "answer": "b"}])
    with pytest.raises(UserError, match=r"different shape.*completion\+prompt; text"):
        load_split([{"path": first}, {"path": talk}])


def test_an_optional_column_that_no_row_has_is_a_typing_error(tmp_path: Path) -> None:
    data = write(tmp_path / "talk.jsonl", [{"q": "a", "a": "b"}, {"q": "c", "a": "d", "sys": "s"}])
    columns = {"user": "q", "assistant": "a", "system": "sys"}
    assert [len(row["prompt"]) for row in load_split([{"path": data, "columns": columns}]).rows] == [1, 2]
    with pytest.raises(UserError, match=r"no row of .* has a column 'syst'"):
        load_split([{"path": data, "columns": {**columns, "system": "syst"}}])


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.jsonl does not exist"):
        load_split([{"path": str(tmp_path / "gone.jsonl")}])
    with pytest.raises(UserError, match="does not exist"):
        load_split([{"path": str(tmp_path / "no-ending-either")}])


def test_a_column_that_only_some_rows_have_stops_at_the_first_row_without_it(tmp_path: Path) -> None:
    data = write(tmp_path / "holes.jsonl", [{"text": "a"}, {"other": "b"}])
    with pytest.raises(UserError, match=r"holes.jsonl:2: text is nothing"):
        load_split([{"path": data}])
