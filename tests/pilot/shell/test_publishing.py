"""Merging, exporting and pushing a run by keys: what will happen is shown first. The jobs are tested elsewhere; their door is replaced."""

from pathlib import Path
from typing import Any

import pytest

from tests.pilot.shell.conftest import Driver, workbench
from tests.support.results import ended_run
from tuitune.bus.journal import Journal
from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.manifest import Manifest, read_manifest, write_manifest
from tuitune.workbench import publish_control

WAIT = 60.0


@pytest.fixture
def run(folder: Path) -> RunDirectory:
    return ended_run(folder)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What was asked of jobs, which are still loading."""
    asked: list[tuple[str, Any]] = []

    def job(kind: str, wanted: Any, workspace: Path) -> RunDirectory:
        made = create_run(workspace / "runs", f"{kind}-log", "task: sft\n")
        write_manifest(made, Manifest(f"{kind}-log", workspace=str(workspace), kind=kind, state="loading"))
        asked.append((kind, wanted))
        return made

    monkeypatch.setattr(publish_control, "PERIOD", 0.05)
    monkeypatch.setattr(publish_control, "_merge_words", lambda run, workspace: ["merged in bfloat16: 257 MiB on disk"])
    monkeypatch.setattr(publish_control, "_start", lambda name, run, args, workspace: job(name.removeprefix("start_"), args, workspace))
    monkeypatch.setattr(publish_control, "_start_push", lambda run, args, workspace: job("push", args, workspace))
    return asked


def end(folder: Path, kind: str, state: str, *, why: str | None = None, **result: Any) -> None:
    (path,) = (folder / "runs").glob(f"{kind}-log-*")
    job = RunDirectory(path)
    Journal(job.journal / "trainer-1.jsonl").emit("end", reason=state, result=result, error=why)
    manifest = read_manifest(job)
    manifest.state, manifest.why = state, why
    write_manifest(job, manifest)


async def ask_for(screen: Driver, run: RunDirectory, words: str) -> None:
    await screen.app.open_view("run", run.path)
    await screen.until(lambda: screen.focus == "run", WAIT)
    await screen.press("f1")
    await screen.type(words)
    await screen.until(words, WAIT)
    await screen.press("enter")


async def test_a_merge_says_what_it_takes_and_ends_with_the_words_of_its_check(folder: Path, run: RunDirectory, started: list[Any]) -> None:
    async with workbench(folder) as screen:
        await ask_for(screen, run, "Merge the adapter")
        await screen.until("257 MiB on disk", WAIT)
        await screen.press("enter")
        await screen.until(lambda: started, WAIT)
        end(folder, "merge", "done", path="merged", check={"words": "20 of 20 greedy answers are equal"})
        await screen.until("20 of 20 greedy answers are equal", WAIT)
    assert (started[0][0], started[0][1].no_check) == ("merge", False)


async def test_an_export_asks_for_its_form_and_a_failure_says_why(folder: Path, run: RunDirectory, started: list[Any]) -> None:
    async with workbench(folder) as screen:
        await ask_for(screen, run, "Export the model")
        await screen.until("GGUF, Q8_0", WAIT)
        await screen.press("g")
        await screen.until(lambda: started, WAIT)
        end(folder, "export", "failed", why="the converter failed: no such architecture")
        await screen.until("no such architecture", WAIT)
    assert (started[0][0], started[0][1].to) == ("export", "gguf")


async def test_a_push_shows_every_file_before_it_starts_and_is_private(folder: Path, run: RunDirectory, started: list[Any]) -> None:
    async with workbench(folder) as screen:
        await ask_for(screen, run, "Push to the Hub")
        await screen.until("Push to which repository?", WAIT)
        await screen.type("jane/log")
        await screen.press("enter")
        await screen.until("jane/log (private): 6 files", WAIT)
        assert "adapter_model.safetensors" in screen.text
        assert "training_args.bin" not in screen.text
        assert started == []
        await screen.press("enter")
        await screen.until(lambda: started, WAIT)
        end(folder, "push", "done", url="https://hub/jane/log")
        await screen.until("https://hub/jane/log", WAIT)
    assert (started[0][1].repo, started[0][1].public) == ("jane/log", False)


async def test_escape_starts_nothing(folder: Path, run: RunDirectory, started: list[Any]) -> None:
    async with workbench(folder) as screen:
        await ask_for(screen, run, "Merge the adapter")
        await screen.until("257 MiB on disk", WAIT)
        await screen.press("escape")
        await screen.until(lambda: "257 MiB" not in screen.text, WAIT)
    assert started == []


async def test_what_cannot_be_published_is_told_before_any_question(
    folder: Path, run: RunDirectory, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: Path, workspace: Path) -> list[str]:
        raise UserError("the base is quantised itself")

    monkeypatch.setattr(publish_control, "_merge_words", refuse)
    async with workbench(folder) as screen:
        await ask_for(screen, run, "Merge the adapter")
        await screen.until("the base is quantised itself", WAIT)
    assert started == []
