"""Checks of rows as they stand in their files: every fault is found, and its sound twin is left alone."""

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.support.planted import TALK, check, finding
from tests.support.planted_data import ASKED, PAIRS, of_data, pairs, plant_data, questions, talk, told
from tuitune.preflight.repair import apply_fixes

SOUND = questions()
TEXTS = {"prompt": "prompt", "completion": "completion"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "now", "arguments": {}}}]}
TALKS: list[dict[str, Any]] = [talk(("user", row["question"]), ("assistant", row["answer"])) for row in SOUND]


def replaced(rows: list[dict[str, Any]], at: int = 5, **values: Any) -> list[dict[str, Any]]:
    """Rows with one that has other values; a value of ... takes the key out."""
    changed = {key: value for key, value in {**rows[at], **values}.items() if value is not ...}
    return [*rows[:at], changed, *rows[at + 1 :]]


def lines(*more: str) -> str:
    return "".join(f'{{"question": "how much is {n} and {n}", "answer": "that is {2 * n}"}}\n' for n in range(12)) + "".join(more)


def csv(*records: str) -> str:
    return (
        "question,answer\n" + "".join(f"how much is {n} and {n},that is {2 * n}\n" for n in range(12)) + "".join(f"{r}\n" for r in records)
    )


FAULTS: dict[str, tuple[Any, Mapping[str, str] | None, dict[str, Any], dict[str, str]]] = {
    # name: (data, columns, file name and sections, check → severity)
    "an empty conversation": ([*TALKS, {"messages": []}], TALK, {}, {"DAT01": "error"}),
    "texts among conversations": (
        [{"prompt": [{"role": "user", "content": "a b"}], "completion": [{"role": "assistant", "content": "c"}]}] * 1
        + [{"prompt": "what is it", "completion": "a cat"}],
        TEXTS,
        {},
        {"DAT01": "error"},
    ),
    "a null answer": (replaced(SOUND, answer=None), ASKED, {}, {"DAT02": "error"}),
    "an answer that is not there": (replaced(SOUND, answer=...), ASKED, {}, {"DAT02": "error"}),
    "an answer that the first row lacks": (replaced(SOUND, 0, answer=...), None, {}, {"DAT02": "error"}),
    "a null turn": (
        replaced(TALKS, messages=[{"role": "user", "content": None}, {"role": "assistant", "content": "x"}]),
        TALK,
        {},
        {"DAT02": "warning"},
    ),
    "a truth value": (replaced(SOUND, answer=True), ASKED, {}, {"DAT03": "error"}),
    "a list among texts": (replaced(SOUND, 20, answer=["x"]), ASKED, {}, {"DAT03": "error"}),
    "an object": (replaced(SOUND, question={"a": 1}), ASKED, {}, {"DAT03": "error"}),
    "a number among texts": (replaced(SOUND, answer=42), ASKED, {}, {"DAT03": "info"}),
    "turns written as text": (replaced(TALKS, messages="[]"), TALK, {}, {"DAT03": "error"}),
    "a number as content": (
        replaced(TALKS, messages=[{"role": "user", "content": "x y"}, {"role": "assistant", "content": 5}]),
        TALK,
        {},
        {"DAT03": "warning"},
    ),
    "parts for a template of texts": (
        replaced(TALKS, messages=[{"role": "user", "content": [{"type": "text", "text": "x"}]}, {"role": "assistant", "content": "y z"}]),
        TALK,
        {},
        {"DAT03": "error"},
    ),
    "dates in JSON": ([{**row, "answer": f"2024-01-{n + 1:02}"} for n, row in enumerate(SOUND)], ASKED, {}, {"DAT04": "info"}),
    "empty cells": (csv("who is it,", "what is it,NA"), ASKED, {"name": "train.csv"}, {"DAT05": "warning", "DAT11": "warning"}),
    "cells of digits": (
        "question,answer\n" + "".join(f"how much is {n} and {n},{2 * n}\n" for n in range(12)),
        ASKED,
        {"name": "train.csv"},
        {"DAT05": "info"},
    ),
    "a Latin-1 byte": (lines().encode() + b'{"question": "caf\xe9", "answer": "x"}\n', ASKED, {}, {"DAT06": "error"}),
    "a file in UTF-16": (lines().encode("utf-16"), ASKED, {}, {"DAT06": "error"}),
    "half a character": (lines('{"question": "a \\ud83d", "answer": "x"}\n'), ASKED, {}, {"DAT06": "error"}),
    "an empty file": (b"", ASKED, {}, {"DAT06": "error"}),
    "a name twice": (lines('{"question": "a b", "answer": "x", "answer": "y"}\n'), ASKED, {}, {"DAT06": "warning"}),
    "a line that is no JSON": (lines('{"question": "a", "answer": \n'), ASKED, {}, {"DAT07": "error"}),
    "a line that is a list": (lines("[1, 2]\n"), ASKED, {}, {"DAT07": "error"}),
    "a document that breaks off": ('[{"question": "a", "answer": "b"},', ASKED, {"name": "train.json"}, {"DAT07": "error"}),
    "too many cells": (csv("a,b,c"), ASKED, {"name": "train.csv"}, {"DAT07": "error"}),
    "a damaged parquet file": (b"PAR1 and nothing more", ASKED, {"name": "train.parquet"}, {"DAT07": "error"}),
    "columns of unknown names": ([{"frage": "a b", "antwort": "c d"}], None, {}, {"DAT08": "error"}),
    "columns of guessable names": ([{"Query": r["question"], "reply": r["answer"]} for r in SOUND], None, {}, {"DAT08": "error"}),
    "turns of an unknown name": ([{"dialog": row["messages"]} for row in TALKS], None, {}, {"DAT08": "error"}),
    "a column that is not there": (SOUND, {"user": "question", "assistant": "anwser"}, {}, {"DAT08": "error"}),
    "an optional column that is not there": (SOUND, {**ASKED, "system": "persona"}, {}, {"DAT08": "error"}),
    "questions for DPO": (SOUND, None, {"task": "dpo"}, {"DAT08": "error"}),
    "answers to be rated, without a rating": (SOUND, ASKED, {"task": "kto"}, {"DAT08": "error"}),
    "no answer in a conversation": ([*TALKS, talk(("user", "are you there"))], TALK, {}, {"DAT09": "warning"}),
    "no answer, with assistant_only_loss": (
        [*TALKS, talk(("user", "are you there"))],
        TALK,
        {"training": {"assistant_only_loss": True}},
        {"DAT09": "error"},
    ),
    "a question at the end": ([*TALKS, talk(("user", "a"), ("assistant", "b"), ("user", "c"))], TALK, {}, {"DAT09": "warning"}),
    "roles in other letters": (
        [talk(("User", row["question"]), ("Assistant", row["answer"])) for row in SOUND],
        TALK,
        {},
        {"DAT10": "error"},
    ),
    "a role nobody knows": ([*TALKS, talk(("narrator", "once"), ("assistant", "b c"))], TALK, {}, {"DAT10": "warning"}),
    "two questions in a row": ([*TALKS, talk(("user", "a"), ("user", "b"), ("assistant", "c"))], TALK, {}, {"DAT10": "warning"}),
    "a late system turn": ([*TALKS, talk(("user", "a"), ("system", "b"), ("assistant", "c"))], TALK, {}, {"DAT10": "warning"}),
    "a tool nobody called": (
        [*TALKS, talk(("user", "a"), ("assistant", "b"), ("tool", "c"), ("assistant", "d"))],
        TALK,
        {},
        {"DAT10": "warning"},
    ),
    "a turn without role": ([*TALKS, {"messages": [{"content": "a"}]}], TALK, {}, {"DAT10": "error"}),
    "some empty answers": (replaced(SOUND, answer="  "), ASKED, {}, {"DAT11": "warning"}),
    "many empty answers": ([{**row, "answer": ""} if n < 8 else row for n, row in enumerate(SOUND)], ASKED, {}, {"DAT11": "error"}),
    "a control token in a question": (replaced(SOUND, question="what does <|im_end|> do"), ASKED, {}, {"DAT12": "warning"}),
    "rows that are there twice": ([*SOUND, *SOUND[:4]], ASKED, {}, {"DAT15": "warning"}),
    "nearly the same rows": (
        [*SOUND, *({"question": row["question"].upper(), "answer": row["answer"].replace(".", "!")} for row in SOUND[:4])],
        ASKED,
        {},
        {"DAT16": "warning"},
    ),
    "one answer to everything": ([{**row, "answer": "I do not know that."} for row in SOUND], ASKED, {}, {"DAT18": "warning"}),
    "one class for everything": (
        [{**row, "answer": "no" if n else "yes"} for n, row in enumerate(SOUND)],
        ASKED,
        {},
        {"DAT18": "warning"},
    ),
    "the answer in the prompt": (
        [{"question": f"{row['question']} {row['answer']}", "answer": row["answer"]} for row in SOUND],
        ASKED,
        {},
        {"DAT19": "warning"},
    ),
    "a word decoded wrongly": (replaced(SOUND, answer="die TÃ¼r ist offen"), ASKED, {}, {"DAT20": "warning"}),
    "a quotation mark decoded wrongly": (replaced(SOUND, answer="he said â€œhelloâ€\x9d to me"), ASKED, {}, {"DAT20": "warning"}),
    "a lost character": (replaced(SOUND, answer="caf\ufffd au lait"), ASKED, {}, {"DAT20": "warning"}),
    "a control character": (replaced(SOUND, answer="a\x00b c"), ASKED, {}, {"DAT20": "warning"}),
    "token ids without texts": ([{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}], None, {}, {"DAT23": "error"}),
    "token ids beside texts": ([{**row, "input_ids": [1]} for row in SOUND], ASKED, {}, {"DAT23": "info"}),
    "raw strings for a chat model": (
        [{"prompt": row["question"], "completion": row["answer"]} for row in SOUND],
        TEXTS,
        {},
        {"DAT25": "warning"},
    ),
    "plain text for a chat model": ([{"text": row["question"]} for row in SOUND], {"text": "text"}, {}, {"DAT25": "warning"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(name: str, tmp_path: Path, tiny_model: Path) -> None:
    data, columns, more, expected = FAULTS[name]
    assert told(of_data(plant_data(tmp_path, tiny_model, data, columns, **more))) == expected


NO_FIX = {  # only a person can say what was meant
    "columns of unknown names",
    "a number among texts", "parts for a template of texts", "dates in JSON", "cells of digits", "a file in UTF-16", "an empty file",
    "a name twice", "a document that breaks off", "a damaged parquet file", "questions for DPO", "answers to be rated, without a rating",
    "an optional column that is not there", "a role nobody knows", "a control token in a question", "one answer to everything",
    "one class for everything", "the answer in the prompt", "a word decoded wrongly", "a quotation mark decoded wrongly",
    "a lost character", "a control character", "token ids without texts", "token ids beside texts", "plain text for a chat model",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in NO_FIX])
def test_a_fix_makes_the_finding_go_and_no_other_come(name: str, tmp_path: Path, tiny_model: Path) -> None:
    data, columns, more, _ = FAULTS[name]
    place = plant_data(tmp_path, tiny_model, data, columns, **more)
    fixes = [finding.fix for finding in of_data(place) if finding.severity != "info"]
    apply_fixes(place.recipe, place.recipe.read_text(), [fix for fix in fixes if fix])
    assert all(fixes)
    assert [f"{f.id}: {f.message}" for f in of_data(place, ("",)) if f.severity != "info"] == []


@pytest.mark.parametrize("name", sorted(NO_FIX))
def test_what_only_a_person_can_mend_has_no_fix(name: str, tmp_path: Path, tiny_model: Path) -> None:
    data, columns, more, _ = FAULTS[name]
    assert [finding.id for finding in of_data(plant_data(tmp_path, tiny_model, data, columns, **more)) if finding.fix] == []


CLEAN: dict[str, tuple[Any, Mapping[str, str] | None, dict[str, Any]]] = {
    "questions and answers": (SOUND, ASKED, {}),
    "columns known by their names": (SOUND, None, {}),
    "a byte order mark": ("\ufeff" + lines(), ASKED, {}),
    "blank lines": (lines("\n\n"), ASKED, {}),
    "a table with quotes": (csv('"a, b","it said ""c"""'), ASKED, {"name": "train.csv"}),
    "a class called None": (
        "question,answer\n" + "".join(f"what is in box {n} of row {n + 1},{('cat', 'None', 'dog')[n % 3]}\n" for n in range(30)),
        ASKED,
        {"name": "train.csv"},
    ),
    "conversations": (TALKS, TALK, {}),
    "names of other tools": (
        [{"conversations": [{"from": "human", "value": r["question"]}, {"from": "gpt", "value": r["answer"]}]} for r in SOUND],
        None,
        {},
    ),
    "a system turn and tools": (
        [
            {
                "messages": [
                    {"role": "system", "content": "Answer briefly."},
                    {"role": "user", "content": f"What time is it in town {n}?"},
                    CALL,
                    {"role": "tool", "content": f"{n % 12}:00"},
                    {"role": "assistant", "content": f"It is {n % 12} o'clock in town {n}."},
                ]
            }
            for n in range(24)
        ],
        TALK,
        {},
    ),
    "classes": ([{**row, "answer": "yes" if n % 3 else "no"} for n, row in enumerate(SOUND)], ASKED, {}),
    "passages to be found": (
        [
            {
                "question": f"In the year {1900 + n} the town of Arl{n} built a harbour by the sea, and the mayor said it was {n} feet "
                "deep. Nobody knew how it would end, but ships came from far away and stayed for the winter. Which town was it?",
                "answer": f"the town of Arl{n} built a harbour",
            }
            for n in range(24)
        ],
        ASKED,
        {},
    ),
    "Portuguese": (replaced(SOUND, answer="A AÇÃO É DE MÃE, SÃO JOÃO E ÀS TRÊS: não há razão, só coração"), ASKED, {}),
    "many languages": (
        replaced(SOUND, answer="naïve Œuvre „Größe“ žluťoučký Ελληνικά русский 日本語 한국어 ﷺ é à – “ok” … 10 °C ½"),
        ASKED,
        {},
    ),
    "code that looks like markers": (replaced(SOUND, question="what does `a <| b |> c` and vec<int> and [INST mean"), ASKED, {}),
    "markers in answers": (replaced(SOUND, answer="one <|im_start|> two"), ASKED, {}),
    "a weight that repeats rows": (SOUND, ASKED, {"dataset": {"train": [{"path": "train.jsonl", "columns": ASKED, "weight": 3.0}]}}),
    "rendered text": ([{"text": f"<|im_start|>user\n{r['question']}<|im_end|>\n"} for r in SOUND], {"text": "text"}, {}),
    "one long instruction": (
        [
            {
                "question": "You are given a word. Decide which of the following classes it belongs to: animal, plant, stone or tool. "
                f"Answer with the name of the class only, in lower case, without punctuation. The word is: w{n}x{n * n}",
                "answer": ("animal", "plant", "stone", "tool")[n % 4],
            }
            for n in range(40)
        ],
        ASKED,
        {},
    ),
    "several answers to one question": (
        [
            {"question": "Why is the sky over the old town red in the evening when it was blue all day long?", "answer": answer}
            for answer in (
                "Light goes a longer way then.",
                "Because blue is scattered off first.",
                "Dust and air take out what is short.",
                "Rayleigh's law explains that.",
            )
        ]
        + SOUND,
        ASKED,
        {},
    ),
    "preferences": (pairs(), PAIRS, {"task": "dpo", "model_chat": False}),
}


@pytest.mark.parametrize("name", CLEAN)
def test_sound_data_raises_no_alarm(name: str, tmp_path: Path, tiny_model: Path) -> None:
    data, columns, more = CLEAN[name]
    more = {key: value for key, value in more.items() if key != "model_chat"}
    found = of_data(plant_data(tmp_path, tiny_model, data, columns, **more))
    expected = ["DAT25"] if name == "preferences" else []  # raw strings, which the tiny model's template is not used for
    assert [f"{f.id}: {f.message}" for f in found if f.severity != "info" and f.id not in expected] == []


def test_dates_of_a_parquet_file_are_found_and_written_as_text(tmp_path: Path, tiny_model: Path) -> None:
    rows = {"question": [f"when was it {n}" for n in range(12)], "answer": [date(2024, 1, n + 1) for n in range(12)]}
    place = plant_data(tmp_path, tiny_model, b"", ASKED, "train.parquet")
    pyarrow.parquet.write_table(pyarrow.table(rows), place.data)
    found = of_data(place)
    assert told(found) == {"DAT04": "error"}
    (fix,) = [finding.fix for finding in found if finding.fix]
    assert fix.automatic
    apply_fixes(place.recipe, place.recipe.read_text(), [fix])
    assert told(of_data(place)) == {"DAT04": "info"}
    assert '"answer": "2024-01-01"' in (tmp_path / "train.fixed.jsonl").read_text()


def test_a_stream_is_told_as_such(tmp_path: Path, tiny_model: Path) -> None:
    sections = {"dataset": {"train": [{"path": "train.jsonl", "columns": ASKED, "streaming": True}]}}
    found = finding(check(plant_data(tmp_path, tiny_model, SOUND, **sections).recipe), "DAT22")
    assert found.where.key == "dataset.train[0].streaming"


OF_FILES = [name for name, (_, _, more, expected) in FAULTS.items() if not more and set(expected) <= {"DAT02", "DAT06", "DAT07"}]


@pytest.mark.parametrize("name", OF_FILES)
def test_a_file_of_the_evaluation_is_looked_at_as_well(name: str, tmp_path: Path, tiny_model: Path) -> None:
    data, columns, _, expected = FAULTS[name]
    source = {"path": "held-out.jsonl", **({"columns": dict(columns)} if columns else {})}
    training = {"path": "train.jsonl", "columns": ASKED}
    rows = [{"question": f"In which year was house {n} built?", "answer": f"It was built in {1800 + n}."} for n in range(24)]
    place = plant_data(tmp_path, tiny_model, rows, name="train.jsonl", dataset={"train": [training], "eval": [source]})
    held_out = data if isinstance(data, bytes) else data.encode() if isinstance(data, str) else lines_of(data)
    (tmp_path / "held-out.jsonl").write_bytes(held_out)
    found = of_data(place)
    assert told(found) == expected
    assert {finding.where.split for finding in found} == {"eval"}


def lines_of(rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def test_rows_that_go_to_the_trainer_unprepared_are_an_error_until_the_key_is_taken_out(tmp_path: Path, tiny_model: Path) -> None:
    skip = {"training": {"dataset_kwargs": {"skip_prepare_dataset": True}}}
    place = plant_data(tmp_path, tiny_model, SOUND, **skip)
    found = finding_in(of_data(place), "DAT23")
    assert found.severity == "error"
    assert found.fix is not None
    apply_fixes(place.recipe, place.recipe.read_text(), [found.fix])
    assert told(of_data(place)) == {}
    (tmp_path / "prepared").mkdir()
    place = plant_data(tmp_path / "prepared", tiny_model, SOUND, training={"dataset_kwargs": {"skip_prepare_dataset": False}})
    assert told(of_data(place)) == {}


def finding_in(findings: Any, id: str) -> Any:
    return next(finding for finding in findings if finding.id == id)
