"""The chat view by keys, over a real hub and a chat job without a model."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot

from tests.pilot.run.host import Host, screen_text, screen_words, until
from tests.support import journals
from tests.support.living_job import LivingJob, living_job
from tuitune.workbench.views.chat_view import ChatView, Column
from tuitune.workbench.views.job_view import JobView
from tuitune.workbench.views.runs_table import RunsTable
from tuitune.workbench.workspace import run_view

SECONDS = 60.0


@asynccontextmanager
async def chat(root: Path, size: tuple[int, int] = (110, 30)) -> AsyncIterator[tuple[Pilot[None], ChatView, LivingJob]]:
    """The view of a chat with two models that is ready."""
    with living_job(root, {"sides": [{}, {}]}, kind="chat", module="tests.support.stand_in_chat") as job:
        view = ChatView(job.run.path)
        view.pace.period = 0.02
        app = Host(view)
        app.root = root  # type: ignore[attr-defined]
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: view.status == "ready" and len(view.query(Column)) == 2, "loading", SECONDS)
            yield pilot, view, job


async def ask(pilot: Pilot[None], view: ChatView, text: str) -> None:
    """Type a question and wait for both answers."""
    view.question.value = text
    await pilot.press("enter")
    await until(
        pilot, lambda: view.feed.chat.turns and view.feed.chat.turns[-1].text == text and not view.question.value, "asking", SECONDS
    )


async def test_two_models_answer_beside_each_other(tmp_path: Path) -> None:
    async with chat(tmp_path) as (pilot, view, _):
        await ask(pilot, view, "the cat")
        await until(pilot, lambda: view.status == "ready" and "right the cat" in screen_text(pilot.app), "answering", SECONDS)
        left, right = view.query(Column)
        assert left.region.y == right.region.y
        assert left.region.right <= right.region.x
        for words in ("model left  float32 on cpu", "› the cat", "left the cat", "✓ ended by itself · 3 tokens · 50 tok/s · seed 11"):
            assert words in screen_text(pilot.app)


async def test_on_a_narrow_screen_one_stands_below_the_other(tmp_path: Path) -> None:
    async with chat(tmp_path, (76, 20)) as (pilot, view, _):
        await ask(pilot, view, "the cat")
        await until(pilot, lambda: view.status == "ready" and "right the cat" in screen_text(pilot.app), "answering", SECONDS)
        left, right = view.query(Column)
        assert left.region.bottom <= right.region.y
        assert "left the cat" in screen_text(pilot.app)


async def test_escape_interrupts_and_f5_asks_again(tmp_path: Path) -> None:
    async with chat(tmp_path) as (pilot, view, _):
        await ask(pilot, view, "a long story")
        await until(pilot, lambda: "left and left" in screen_text(pilot.app), "streaming", SECONDS)
        view.question.value = "and this?"
        await pilot.press("enter")
        assert "It is answering: Esc interrupts." in pilot.app.told  # type: ignore[attr-defined]
        await pilot.press("escape")
        await until(pilot, lambda: view.status == "ready", "interrupting", SECONDS)
        assert "! interrupted" in screen_text(pilot.app)
        assert view.question.value == "and this?", "what was typed is still there"
        await pilot.press("f5")
        await until(pilot, lambda: view.status == "answering", "answering again", SECONDS)
        assert len(view.feed.chat.turns) == 1
        await pilot.press("escape")


async def test_what_the_job_refuses_is_said_and_the_question_stays(tmp_path: Path) -> None:
    async with chat(tmp_path) as (pilot, view, _):
        view.question.value = "refuse this"
        await pilot.press("enter")
        await until(pilot, lambda: "the template refuses this" in pilot.app.told, "refusing", SECONDS)  # type: ignore[attr-defined]
        assert view.question.value == "refuse this"


async def test_a_conversation_is_kept_as_a_training_row(tmp_path: Path) -> None:
    async with chat(tmp_path) as (pilot, view, _):
        await ask(pilot, view, "the cat")
        await until(pilot, lambda: view.status == "ready" and view.feed.chat.messages("right"), "answering", SECONDS)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "Whose answers" in screen_text(pilot.app), "asking whose", SECONDS)
        await pilot.press("2")
        await until(pilot, lambda: "Keep as a training row" in screen_text(pilot.app), "asking where", SECONDS)
        await pilot.press("enter")
        path = tmp_path / "data" / "chat.jsonl"
        await until(pilot, path.exists, "keeping", SECONDS)
        assert json.loads(path.read_text()) == {
            "messages": [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "right the cat "}]
        }


async def test_sampling_and_token_probabilities(tmp_path: Path) -> None:
    """What the model might have said is foreign text: its escapes are shown, not obeyed."""
    async with chat(tmp_path) as (pilot, view, _):
        await pilot.press("f2")
        await until(pilot, lambda: "Sampling parameters" in screen_text(pilot.app), "asking", SECONDS)
        await pilot.press(*"temperature=0.25 seed=5", "enter")
        shown = "temperature 0.25 · 512 tokens · top_p 0.95 · top_k 50 · seed 5"
        await until(pilot, lambda: shown in screen_text(pilot.app), "setting", SECONDS)
        await ask(pilot, view, "the cat")
        await until(pilot, lambda: view.status == "ready", "answering", SECONDS)
        assert view.feed.chat.turns[0].params["temperature"] == 0.25
        await pilot.press("f3")
        await until(pilot, lambda: "50.0% ████···· cat" in screen_text(pilot.app), "looking", SECONDS)
        assert "␛[31mdog 25%" in screen_text(pilot.app)
        await pilot.press("escape")
        await until(pilot, lambda: "left the cat" in screen_text(pilot.app), "coming back", SECONDS)


async def test_a_chat_that_was_ended_keeps_what_was_said(tmp_path: Path) -> None:
    async with chat(tmp_path) as (pilot, view, job):
        await ask(pilot, view, "the cat")
        await until(pilot, lambda: view.status == "ready" and "right the cat" in screen_text(pilot.app), "answering", SECONDS)
        view.action_run_stop()
        await until(pilot, lambda: view.over, "ending", SECONDS)
        await until(pilot, lambda: "Its models are out of memory" in screen_words(pilot.app), "saying so", SECONDS)
        assert "left the cat" in screen_text(pilot.app)
        assert job.ends().state == "stopped"


async def test_a_job_that_is_no_chat_shows_progress_log_and_result(tmp_path: Path) -> None:
    with living_job(tmp_path, {"story": "loud"}) as job:
        job.ends()
        view = JobView(job.run.path)
        async with Host(view).run_test(size=(100, 24)) as pilot:
            await until(pilot, lambda: "rows: 3" in screen_text(pilot.app), "reading", SECONDS)
            assert "✓ done  3 of 3 rows" in screen_text(pilot.app)
        assert run_view(job.run.path) == "job"


async def test_a_job_is_ended_from_its_page(tmp_path: Path) -> None:
    with living_job(tmp_path, {"story": "talk"}) as job:
        view = JobView(job.run.path)
        async with Host(view).run_test(size=(100, 24)) as pilot:
            await until(pilot, lambda: view.status == "running", "starting", SECONDS)
            view.action_run_stop()
            await until(pilot, lambda: view.status == "stopped", "ending", SECONDS)
        assert job.ends().state == "stopped"


async def test_the_runs_table_says_what_is_a_job(tmp_path: Path) -> None:
    journals.write_run(tmp_path, "gsm-20261120-101500")
    run = journals.write_run(tmp_path, "eval-gsm-20261120-101600")
    document = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**document, "kind": "eval"}))
    app = Host(RunsTable(tmp_path))
    async with app.run_test(size=(100, 20)) as pilot:
        await until(pilot, lambda: "KIND" in screen_text(app), "listing", SECONDS)
        assert "eval-gsm-20261120-101600  eval" in screen_text(app)
        await pilot.pause()
    assert (run_view(run), run_view(tmp_path / "gsm-20261120-101500")) == ("job", "run")
