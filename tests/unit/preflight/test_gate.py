"""The gate before a run: what it lets pass, what it says, what it remembers. Preflight itself is replaced by its report."""

import builtins
import json
import os
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from tuitune import cli
from tuitune.errors import UserError
from tuitune.preflight import gate
from tuitune.preflight.cards import CPU
from tuitune.preflight.finding import Finding
from tuitune.preflight.preflight import Report

ERROR = Finding("EMB01", "error", "t", "the embedding has 40 rows for 448 tokens")
WARNING = Finding("DAT13", "warning", "t", "9 of 10 rows are cut at 64 tokens")
INFO = Finding("TRN99", "info", "t", "a bit slow")


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Make preflight find these findings in r.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tuitune.analyst.client.Analyst", lambda: Namespace(start=lambda: None, close=lambda: None))

    def find(*findings: Finding, valid: bool = True) -> None:
        def report(recipe: Path, analyst: object, *, workspace: Path, found, progress) -> Report:
            progress("checking: rows")
            for finding in findings:
                found(finding)
            return Report(recipe, "name: x\n", CPU, list(findings), valid=valid)

        monkeypatch.setattr(gate, "preflight", report)

    return find


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """What was started: (text that was checked, errors passed over)."""
    runs: list[tuple[str, tuple[str, ...]]] = []

    def launch(path: Path, workspace: Path, *, checked: str, overridden: tuple[str, ...]) -> Namespace:
        runs.append((checked, overridden))
        return Namespace(name="demo-1", path=workspace / "runs" / "demo-1")

    monkeypatch.setattr("tuitune.hub.launch.launch_recipe", launch)
    return runs


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch):
    """Somebody sits at the terminal and answers this; None closes the line. Returns the questions."""

    def answer(text: str | None) -> list[str]:
        asked: list[str] = []

        def ask(question: str) -> str:
            asked.append(question)
            if text is None:
                raise EOFError
            return text

        monkeypatch.setattr(builtins, "input", ask)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        return asked

    return answer


def train(*words: str) -> int:
    return cli.main(["train", "r.yaml", "--detach", *words])


def test_nothing_found_starts_without_a_word(finds, launched, capsys):
    finds(INFO)
    assert train() == 0
    assert launched == [("name: x\n", ())]
    assert capsys.readouterr().out.startswith("demo-1 trains in the background")


def test_an_error_refuses_and_is_printed(finds, launched, capsys):
    finds(WARNING, ERROR)
    assert train() == 1
    assert launched == []
    told = capsys.readouterr()
    assert "EMB01  the embedding has 40 rows" in told.out
    assert "DAT13" in told.out
    assert told.err.startswith("tuitune: nothing was started: r.yaml has 1 error; ")
    assert "--force" in told.err


def test_force_goes_on_and_hands_on_what_it_passed_over(finds, launched, capsys):
    finds(ERROR, WARNING, ERROR)
    assert train("--force") == 0
    assert launched == [("name: x\n", ("EMB01",))]
    assert "EMB01" in capsys.readouterr().out


def test_a_recipe_that_is_none_cannot_be_forced(finds, launched, capsys):
    finds(ERROR, valid=False)
    assert train("--force") == 1
    assert launched == []
    assert "--force does not help" in capsys.readouterr().err


def test_with_json_findings_go_to_stderr(finds, launched, capsys):
    finds(WARNING)
    assert train("--json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["run"] == "demo-1"
    assert "DAT13" in told.err


@pytest.mark.parametrize(("answer", "starts"), [("y", True), ("Yes", True), ("", False), ("n", False), (None, False)])
def test_a_warning_waits_for_a_yes_at_a_terminal(finds, launched, answers, answer, starts):
    finds(WARNING, WARNING)
    asked = answers(answer)
    assert train() == (0 if starts else 1)
    assert asked == ["2 warnings; train anyway? [y/N] "]
    assert bool(launched) is starts


@pytest.mark.parametrize("option", ["--force", "--json"])
def test_nobody_is_asked_who_forces_or_is_a_script(finds, launched, answers, option):
    finds(WARNING)
    assert answers("n") == []
    assert train(option) == 0
    assert len(launched) == 1


def test_without_a_terminal_a_warning_is_printed_and_passed(finds, launched, capsys):
    finds(WARNING)
    assert train() == 0
    assert "DAT13" in capsys.readouterr().out
    assert len(launched) == 1


RECIPE = "model: {name_or_path: ./model}\ndataset:\n  train: [{path: a.jsonl}]\ntokenizer: {chat_template: t.jinja}\noutput: {runs: runs}\n"


@pytest.mark.parametrize("changed", ["r.yaml", "a.jsonl", "model/config.json", "t.jinja"])
def test_what_a_report_rests_on_changes_with_recipe_data_model_and_template(tmp_path: Path, changed: str):
    (tmp_path / "model").mkdir()
    for name, text in {"r.yaml": RECIPE, "a.jsonl": "{}", "model/config.json": "{}", "t.jinja": ""}.items():
        (tmp_path / name).write_text(text)
    before = gate.basis(tmp_path / "r.yaml")
    assert gate.basis(tmp_path / "r.yaml") == before
    (tmp_path / changed).write_text((tmp_path / changed).read_text() + "\n")
    assert gate.basis(tmp_path / "r.yaml") != before


def test_a_new_run_in_the_runs_folder_changes_nothing(tmp_path: Path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    (tmp_path / "runs").mkdir()
    before = gate.basis(tmp_path / "r.yaml")
    (tmp_path / "runs" / "new").mkdir()
    os.utime(tmp_path / "runs")
    assert gate.basis(tmp_path / "r.yaml") == before


def test_a_recipe_that_is_missing_is_a_sentence(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.yaml"):
        gate.basis(tmp_path / "none.yaml")
