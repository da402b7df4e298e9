"""Facts of the installed libraries that the checks of rows lean on; a new version that changes one fails here."""

from typing import Any

import pytest
from datasets import Dataset
from trl import SFTConfig, extract_prompt
from trl.data_utils import is_conversational

from tuitune.dataset.load import load_split

ASK = {"role": "user", "content": "a"}
ANSWER = {"role": "assistant", "content": "b"}


def test_trl_cannot_judge_an_empty_conversation() -> None:
    with pytest.raises(IndexError):
        is_conversational({"messages": []})


def test_pairs_without_a_common_beginning_have_an_empty_prompt() -> None:
    other = {"role": "assistant", "content": "c"}
    assert extract_prompt({"chosen": [ASK, ANSWER], "rejected": [ASK, other]})["prompt"] == [ASK]
    assert extract_prompt({"chosen": [ANSWER], "rejected": [other]})["prompt"] == []


def test_max_length_is_1024_where_nothing_is_said() -> None:
    assert SFTConfig.__dataclass_fields__["max_length"].default == 1024


def test_trl_can_be_told_to_leave_rows_untokenised() -> None:
    assert "dataset_kwargs" in SFTConfig.__dataclass_fields__


@pytest.mark.parametrize(("text", "kind"), [('{"t": "2024-01-01"}', "timestamp"), ('{"t": 5}', "int64")])
def test_load_dataset_makes_other_types_of_what_tuitune_keeps(text: str, kind: str, tmp_path: Any) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text(text + "\n")
    assert str(Dataset.from_json(str(file), cache_dir=str(tmp_path / "cache")).features["t"]).find(kind) >= 0
    (row,) = load_split([{"path": str(file), "columns": {"text": "t"}}]).rows
    assert row["text"] in ("2024-01-01", "5")
