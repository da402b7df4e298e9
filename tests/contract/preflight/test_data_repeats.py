"""Rows that the model is tested on among those that it is trained on: in one recipe, and across the runs that it comes from."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.planted_data import ASKED, Rows, of_data, plant_data, questions, told
from tests.support.runs import new_run
from tuitune.preflight.finding import Finding
from tuitune.preflight.repair import apply_fixes

TOWNS = ("Arles", "Bonn", "Cadiz", "Delft", "Evora", "Fano", "Ghent", "Hull", "Ivrea", "Jena", "Kiel", "Lodi")


def puzzles(count: int = 12, start: int = 0) -> list[dict[str, str]]:
    """Questions of a sentence or two, none like another."""
    return [
        {
            "question": f"A ferry to {TOWNS[n % 12]} takes {n + 31} people and {n * 7 + 3} carts. How many wheels arrive on trip {n}?",
            "answer": f"Each cart of {TOWNS[n % 12]} has two wheels, that makes {2 * (n * 7 + 3)}.",
        }
        for n in range(start, start + count)
    ]


def dat17(place: Any) -> list[Finding]:
    return [finding for finding in of_data(place) if finding.id == "DAT17"]


def check_and_fix(folder: Path, model: Path, train: Rows, evaluation: Rows) -> tuple[list[Finding], list[Finding]]:
    place = plant_data(folder, model, train, ASKED)
    (folder / "eval.jsonl").write_bytes(plant_data(folder / "other", model, evaluation, ASKED).data.read_bytes())
    text = place.recipe.read_text().replace(
        "  train:\n", "  eval:\n  - {path: eval.jsonl, columns: {user: question, assistant: answer}}\n  train:\n"
    )
    place.recipe.write_text(text)
    before = dat17(place)
    apply_fixes(place.recipe, text, [finding.fix for finding in before if finding.fix])
    return before, dat17(place)


def test_whole_rows_and_questions_of_the_evaluation_are_told_apart(tmp_path: Path, tiny_model: Path) -> None:
    held = puzzles(12, 100)
    trained = [
        *questions(),
        held[0],
        {**held[1], "answer": held[1]["answer"].upper()},
        {**held[2], "answer": "Nobody can know that at all."},
    ]
    before, after = check_and_fix(tmp_path, tiny_model, trained, held)
    assert [(finding.severity, finding.evidence["rows"]) for finding in before] == [("warning", [24, 25]), ("warning", [26])]
    assert before[0].evidence["pairs"] == [[24, 0], [25, 1]]
    assert after == []


def test_other_rows_than_those_of_the_evaluation_raise_no_alarm(tmp_path: Path, tiny_model: Path) -> None:
    before, _ = check_and_fix(tmp_path, tiny_model, puzzles(24), puzzles(12, 100))
    assert before == []


def test_a_question_that_is_asked_again_and_again_says_nothing(tmp_path: Path, tiny_model: Path) -> None:
    train = [{"question": "Write a sentence about a town.", "answer": row["answer"]} for row in puzzles(24)]
    held = [{"question": "Write a sentence about a town.", "answer": row["answer"]} for row in puzzles(12, 100)]
    before, _ = check_and_fix(tmp_path, tiny_model, train, held)
    assert before == []


HELD = puzzles(12, 200)
PAIRED = [
    (
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
        lambda question, n: {"prompt": question, "chosen": f"two {n}", "rejected": "no"},
    ),
    (
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
        lambda question, n: {"prompt": f"Question: {question}\nThink first.\nAnswer:", "chosen": f"two {n}", "rejected": "no"},
    ),
    (
        {"chosen": "good", "rejected": "bad"},
        lambda question, n: {
            side: [{"role": "user", "content": question}, {"role": "assistant", "content": f"{side} {n}"}] for side in ("good", "bad")
        },
    ),
]


def lineage(folder: Path, model: Path, pairs: Rows, columns: dict[str, str]) -> Any:
    """A DPO recipe on `pairs` that starts from the adapter of an SFT run evaluated on HELD."""
    place = plant_data(folder, model, pairs, columns, task="dpo", name="pairs.jsonl", training={"learning_rate": 5e-6})
    (folder / "test.jsonl").write_bytes(plant_data(folder / "test", model, HELD, ASKED).data.read_bytes())
    (folder / "sft.jsonl").write_bytes(plant_data(folder / "sft", model, questions(), ASKED).data.read_bytes())
    dpo = place.recipe.read_text()
    sft = (
        "task: sft\nmodel: {name_or_path: ./model}\npeft: {r: 8}\ndataset:\n"
        "  train: [{path: sft.jsonl, columns: {user: question, assistant: answer}}]\n"
        "  eval: [{path: test.jsonl, columns: {user: question, assistant: answer}}]\n"
    )
    run = new_run(folder, sft)
    run.adapter.mkdir()
    dpo = dpo.replace("name_or_path: ./model\n", f"name_or_path: ./model\n  adapter: ./{run.adapter.relative_to(folder)}\n")
    place.recipe.write_text(dpo.partition("peft:")[0] + dpo[dpo.index("dataset:") :])
    return place


@pytest.mark.parametrize(("columns", "pair"), PAIRED)
def test_pairs_made_of_questions_that_an_earlier_run_was_evaluated_on_are_an_error(
    columns: dict[str, str], pair: Any, tmp_path: Path, tiny_model: Path
) -> None:
    pairs = [pair(row["question"], n) for n, row in enumerate([*puzzles(20), *HELD[:3]])]
    place = lineage(tmp_path, tiny_model, pairs, columns)
    (found,) = dat17(place)
    assert found.severity == "error"
    assert found.evidence["rows"] == [20, 21, 22]
    assert found.evidence["held_out"] == [0, 1, 2]
    assert "test.jsonl" in found.message
    assert Path(found.evidence["run"]).parent == tmp_path / "runs"
    assert found.fix is not None
    apply_fixes(place.recipe, place.recipe.read_text(), [found.fix])
    assert dat17(place) == []


def test_pairs_of_other_questions_after_an_evaluated_run_are_sound(tmp_path: Path, tiny_model: Path) -> None:
    columns, pair = PAIRED[0]
    assert dat17(lineage(tmp_path, tiny_model, [pair(row["question"], n) for n, row in enumerate(puzzles(20))], columns)) == []


def test_an_evaluation_file_that_is_gone_is_told(tmp_path: Path, tiny_model: Path) -> None:
    columns, pair = PAIRED[0]
    place = lineage(tmp_path, tiny_model, [pair(row["question"], n) for n, row in enumerate(puzzles(20))], columns)
    (tmp_path / "test.jsonl").unlink()
    (found,) = dat17(place)
    assert found.severity == "info"
    assert "test.jsonl does not exist" in found.message


def test_a_weight_is_no_repetition(tmp_path: Path, tiny_model: Path) -> None:
    sections = {"dataset": {"train": [{"path": "train.jsonl", "columns": ASKED, "weight": 2.5}]}}
    assert told(of_data(plant_data(tmp_path, tiny_model, questions(), **sections))) == {}
