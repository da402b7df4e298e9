"""Runs beside each other: their curves over all attempts, and the values in which they differ."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import journals
from tuitune.errors import UserError
from tuitune.runs.compare import ABSENT, Difference, compare, differ, document
from tuitune.runs.curves import read_curves
from tuitune.runs.directory import RunDirectory

A, B = "a-20261120-101500", "b-20261120-101500"


def pair(root: Path) -> list[RunDirectory]:
    """Two runs: b with twice the rank, another rate, a warm-up that a has not, and a dtype that only the ledger tells."""
    runs = [RunDirectory(journals.write_run(root, name)) for name in (A, B)]
    other = journals.RECIPE.replace("r: 16", "r: 32").replace("2.0e-4", "1.0e-4") + "  warmup_steps: 5\n"
    runs[1].recipe.write_text(other)
    ledger = json.loads(runs[1].effective.read_text())
    for entry in ledger["values"]:
        entry["value"] = {"dtype": "float32", "r": 32, "learning_rate": 1e-4}.get(entry["key"], entry["value"])
    runs[1].effective.write_text(json.dumps(ledger))
    return runs


def test_what_the_recipes_say_comes_first_and_what_only_the_trainers_tell_after_it(tmp_path: Path) -> None:
    found, notes = differ(pair(tmp_path))
    assert found == [
        Difference("recipe", "peft.r", (16, 32)),
        Difference("recipe", "training.learning_rate", (2e-4, 1e-4)),
        Difference("recipe", "training.warmup_steps", (ABSENT, 5)),
        Difference("ledger", "model.dtype", ("bfloat16", "float32")),
    ]
    assert notes == []


def test_a_run_whose_ledger_is_not_there_yet_is_compared_by_its_recipe_and_says_so(tmp_path: Path) -> None:
    runs = pair(tmp_path)
    runs[1].effective.unlink()
    found, notes = differ(runs)
    assert {one.origin for one in found} == {"recipe"}
    assert len(notes) == 1
    assert notes[0].startswith(f"{B}: The effective settings")


def test_a_curve_goes_over_all_attempts_and_each_step_counts_once(tmp_path: Path) -> None:
    """The first attempt died at step 40, the second went on from the checkpoint of step 25."""
    curves = read_curves(RunDirectory(journals.write_run(tmp_path, attempts=2)).journal)
    assert list(curves["loss"].steps) == list(range(1, 61))
    second = {record["step"]: record["loss"] for record in journals.trainer_records(60, first=26) if record["ev"] == "metrics"}
    assert curves["loss"].values[25:] == pytest.approx(list(second.values()))
    assert list(curves["eval_loss"].steps) == [20, 40, 60]
    assert "step_ms" in curves
    assert "mem" not in curves


def test_each_run_has_its_best_evaluation_speed_and_duration(tmp_path: Path) -> None:
    one = compare(pair(tmp_path)).runs[0]
    assert one.best_eval is not None
    assert one.best_eval[0] == min(one.curves["eval_loss"].values)
    assert one.speed == pytest.approx(8192, rel=0.05)
    assert one.seconds == 40


def test_one_run_alone_or_twice_is_refused(tmp_path: Path) -> None:
    first, _ = pair(tmp_path)
    for runs in ([first], [first, first]):
        with pytest.raises(UserError, match="two or more different runs"):
            compare(runs)


def test_the_document_is_json_whatever_the_values_are(tmp_path: Path) -> None:
    runs = pair(tmp_path)
    journals.append(
        runs[0].path, "trainer-1", [{"v": 1, "n": 999, "t": journals.START + 99, "ev": "metrics", "step": 61, "loss": float("nan")}]
    )
    found = json.loads(json.dumps(document(compare(runs)), allow_nan=False))
    assert [run["id"] for run in found["runs"]] == [A, B]
    assert found["runs"][0]["metrics"]["loss"]["values"][-1] == "nan"
    warm_up = next(one for one in found["differences"] if one["key"] == "training.warmup_steps")
    assert warm_up == {"origin": "recipe", "key": "training.warmup_steps", "values": {A: None, B: 5}, "absent": [A]}


def tuitune(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tuitune", *words], cwd=folder, capture_output=True, text=True, env=None, timeout=60)


def test_the_command_prints_both_tables_and_json_has_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    pair(tmp_path / "runs")
    shown = tuitune(tmp_path, "compare", "a", "b").stdout
    for piece in (A, "60/60", "recipe  peft.r", "0.0002", "–", "ledger  model.dtype"):
        assert piece in shown
    answer = json.loads(tuitune(tmp_path, "compare", "a", "b", "--json").stdout)
    assert answer["schema"] == 1
    assert len(answer["runs"][1]["metrics"]["loss"]["steps"]) == 60
    alone = tuitune(tmp_path, "compare", "a")
    assert (alone.returncode, alone.stderr.strip()) == (2, "tuitune: compare takes two or more different runs")
