"""Evaluating a run by keys. The job itself is tested in tests/contract/test_evaluation.py; here its door is replaced."""

from pathlib import Path
from typing import Any

import pytest

from tests.pilot.shell.conftest import Driver, workbench
from tests.support.journals import write_run
from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.manifest import Manifest, read_manifest, write_manifest
from tuitune.workbench import evaluation_actions

WAIT = 60.0


@pytest.fixture
def trained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that can be evaluated."""
    monkeypatch.setattr(evaluation_actions, "words", lambda path, workspace: [f"{path.name} on test.jsonl, beside its base model."])
    monkeypatch.setattr(evaluation_actions, "PERIOD", 0.05)
    return write_run(folder / "runs", "demo-20261121-090000", steps=10, max_steps=10)


@pytest.fixture
def started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Any]]:
    """What was asked of the job, which is still loading."""
    asked: list[tuple[Path, Any]] = []

    def start(path: Path, wanted: dict[str, Any], workspace: Path) -> RunDirectory:
        run = create_run(workspace / "runs", "eval-demo", "task: sft\n")
        write_manifest(run, Manifest("eval-demo", workspace=str(workspace), kind="eval", state="loading"))
        asked.append((path, wanted))
        return run

    monkeypatch.setattr(evaluation_actions, "_start", start)
    return asked


async def command(screen: Driver, words: str) -> None:
    """A command by the palette."""
    await screen.press("f1")
    await screen.type(words)
    await screen.until(words)
    await screen.press("enter")


def end(folder: Path, state: str, why: str | None = None, report: str | None = None) -> None:
    (path,) = (folder / "runs").glob("eval-demo-*")
    if report is not None:
        (path / "evaluation.md").write_text(report)
    manifest = read_manifest(RunDirectory(path))
    manifest.state, manifest.why = state, why
    write_manifest(RunDirectory(path), manifest)


async def test_a_run_is_evaluated_after_a_question_and_its_report_opens(folder: Path, trained: Path, started: list[Any]) -> None:
    async with workbench(folder) as screen:
        await screen.app.open_view("run", trained)
        await screen.until(lambda: screen.focus == "run", WAIT)
        await command(screen, "Evaluate the model")
        await screen.until("beside its base model", WAIT)
        await screen.press("a")
        await screen.until(lambda: started, WAIT)
        assert started == [(trained, {"metrics": ["nll", "exact"]})]
        end(folder, "done", report="# Evaluation of demo\n\nperplexity fell\n")
        await screen.until("perplexity fell", WAIT)
        assert "[evaluation.md]" in screen.tabs


async def test_an_evaluation_that_fails_says_why(folder: Path, trained: Path, started: list[Any]) -> None:
    async with workbench(folder) as screen:
        await screen.app.open_view("run", trained)
        await screen.until(lambda: screen.focus == "run", WAIT)
        await command(screen, "Evaluate the model")
        await screen.until("beside its base model", WAIT)
        await screen.press("enter")
        await screen.until(lambda: started, WAIT)
        end(folder, "failed", why="row 3 has no answer; mend it")
        await screen.until("row 3 has no answer", WAIT)


async def test_the_newest_report_of_a_run_opens_from_the_runs_table(folder: Path, trained: Path) -> None:
    (trained / "evaluations").mkdir()
    (trained / "evaluations" / "20261121-100000.md").write_text("the first one\n")
    async with workbench(folder) as screen:
        await screen.app.open_view("runs", folder / "runs")
        await screen.until(lambda: screen.focus == "runs", WAIT)
        await screen.until("demo-2026", WAIT)
        await command(screen, "Open the evaluation")
        await screen.until("the first one", WAIT)


def test_a_run_without_a_report_or_rows_says_what_to_do(folder: Path) -> None:
    run = write_run(folder / "runs", "demo-20261121-090000", steps=10, max_steps=10)
    with pytest.raises(UserError, match="has not been evaluated yet: tuitune eval demo-2026"):
        evaluation_actions.newest_report(run)
