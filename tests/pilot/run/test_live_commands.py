"""Live tuning by keys: what is asked, what is sent, and what is said of the answer. The hub's door is replaced by one that records."""

from pathlib import Path
from typing import Any

import pytest

from tests.pilot.run.host import Host, dashboard, screen_text, screen_words, until
from tests.support import journals
from tuitune.bus.journal import Journal
from tuitune.errors import UserError
from tuitune.hub import launch
from tuitune.runs.directory import RunDirectory
from tuitune.workbench.views.run import live
from tuitune.workbench.views.run.command_bar import CommandBar
from tuitune.workbench.views.runs_table import RunsTable


class Door:
    """What was sent to the hub: (op, args, id); it answers "queued"."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.ids: list[str] = []

    def __call__(self, run: Path) -> "Door":
        return self

    def send(self, op: str, args: dict[str, Any], *, id: str) -> dict[str, Any]:
        self.sent.append((op, args))
        self.ids.append(id)
        return {"k": "ack", "id": id, "s": "queued"}


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    found = Door()
    monkeypatch.setattr(live, "HubClient", found)
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A living run at step 30 of 60."""
    return journals.living(journals.write_run(tmp_path, steps=30, max_steps=60, final=None, caps=journals.LIVE_CAPS))


def told(pilot: Any) -> list[str]:
    assert isinstance(pilot.app, Host)
    return pilot.app.told


async def test_a_learning_rate_is_asked_for_with_its_curve_confirmed_sent_and_followed_to_its_mark(run: Path, door: Door) -> None:
    """r: the present rate stands in the question; "5e-5 hold" → what it does and when; y sends; the answer is a toast and a mark."""
    async with dashboard(run, (100, 30)) as (pilot, _):
        await pilot.press("r")
        await until(pilot, lambda: "Set learning_rate" in screen_text(pilot.app), "the question")
        assert "Now 1.00e-4. A rate, then scale" in screen_text(pilot.app)
        await pilot.press(*"5e-5 hold", "enter")
        await until(pilot, lambda: "Set learning_rate to 5.00e-5?" in screen_text(pilot.app), "the confirmation")
        text = screen_text(pilot.app)
        assert "At the end of step 31 (less than a second from now)" in text
        assert "learning_rate 1.00e-4 → 5.00e-5." in text
        assert "It stays there to the end (step 60)." in text
        await pilot.press("y")
        await until(pilot, lambda: door.sent, "the command")
        assert door.sent == [("set", {"key": "learning_rate", "value": 5e-5, "kind": "hold"})]
        await until(pilot, lambda: told(pilot), "the wait of a second")
        assert told(pilot)[-1].startswith("set learning_rate=5.00e-5 kind=hold: at the end of step 31")

        journal = Journal(run / "journal" / "trainer-1.jsonl")
        command = {"id": door.ids[0], "op": "set"}
        Journal(run / "journal" / "hub.jsonl").emit("command", **command, args=door.sent[0][1], by="ada")
        journal.emit("applied", **command, step=31, ok=True, old=1e-4, new=5e-5)
        await until(pilot, lambda: len(told(pilot)) > 1, "the answer")
        assert told(pilot)[-1] == "learning_rate 1.00e-4 → 5.00e-5, hold by ada at step 31."
        journal.emit("metrics", step=35, max_steps=60, loss=0.5)
        await until(pilot, lambda: "»" in screen_text(pilot.app), "the mark")
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: "» 31 learning_rate 1.00e-4 → 5.00e-5, hold by ada" in screen_text(pilot.app), "the mark's words")


async def test_a_wrong_value_is_told_in_the_question_and_nothing_is_sent(run: Path, door: Door) -> None:
    async with dashboard(run, (100, 30)) as (pilot, view):
        view.action_set_save_steps()
        await until(pilot, lambda: "Now 25." in screen_text(pilot.app), "the question")
        await pilot.press(*"often", "enter")
        await until(pilot, lambda: "save_steps is a whole number, not often." in screen_text(pilot.app), "the sentence")
        await pilot.press("escape")
        assert door.sent == []


@pytest.mark.parametrize(
    ("key", "question", "answer", "sent"),
    [
        ("k", "Save a checkpoint now?", "y", ("save", {})),
        ("v", "Evaluate now?", "enter", ("evaluate", {})),
        ("p", "trim: gives cached GPU memory back", "s", ("pause", {"mode": "suspend"})),
        ("n", "Let the model answer now?", "y", ("sample", {})),
    ],
)
async def test_each_key_asks_and_sends_its_command(
    run: Path, door: Door, key: str, question: str, answer: str, sent: tuple[str, dict[str, Any]]
) -> None:
    async with dashboard(run, (100, 30)) as (pilot, _):
        await pilot.press(key)
        await until(pilot, lambda: question in screen_text(pilot.app), "the question")
        await pilot.press(answer)
        await until(pilot, lambda: door.sent, "the command")
        assert door.sent == [sent]


async def test_a_prompt_of_ones_own_is_sampled(run: Path, door: Door) -> None:
    async with dashboard(run, (100, 30)) as (pilot, _):
        await pilot.press("n")
        await until(pilot, lambda: "Another prompt" in screen_text(pilot.app), "the question")
        await pilot.press("p")
        await until(pilot, lambda: "One user turn" in screen_text(pilot.app), "the line")
        await pilot.press(*"Who?", "enter")
        await until(pilot, lambda: door.sent, "the command")
        assert door.sent == [("sample", {"prompt": "Who?"})]


async def test_a_new_batch_shows_the_effective_batch_before_and_after(run: Path, door: Door) -> None:
    """b: the present shape is from the run's own ledger; what changes the effective batch warns."""
    async with dashboard(run, (100, 30)) as (pilot, _):
        await pilot.press("b")
        await until(pilot, lambda: "Now 4 × 4." in screen_text(pilot.app), "the question")
        await pilot.press(*"2 x 4", "enter")
        await until(pilot, lambda: "4 × 4 = 16 → 2 × 4 = 8." in screen_text(pilot.app), "the confirmation")
        assert "! It changes: each update averages over fewer rows" in screen_text(pilot.app)
        await pilot.press("y")
        await until(pilot, lambda: door.sent, "the command")
        assert door.sent == [("reshape", {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4})]


async def test_the_command_bar_completes_says_what_will_happen_and_sends(run: Path, door: Door) -> None:
    """: opens it; Tab completes; the line above says what it does or what is wrong; Enter sends; Escape leaves."""
    async with dashboard(run, (100, 30)) as (pilot, view):
        await pilot.press("colon", *"set le", "tab")
        bar = view.query_one(CommandBar)
        assert bar.input.value == "set learning_rate="
        await pilot.press(*"fast", "enter")
        assert "learning_rate is a number, not fast." in screen_text(pilot.app)
        assert bar.display, "what is wrong is not sent"
        await pilot.press(*["backspace"] * 4, *"1e-5 k", "tab", *"hold")
        assert "At the end of step 31" in screen_words(pilot.app)
        assert "It stays there to the end" in screen_words(pilot.app)
        await pilot.press("enter")
        await until(pilot, lambda: door.sent, "the command")
        assert door.sent == [("set", {"key": "learning_rate", "value": 1e-5, "kind": "hold"})]
        assert not bar.display
        await pilot.press("colon", "up")
        assert bar.input.value == "set learning_rate=1e-5 kind=hold"
        await pilot.press("escape")
        assert not bar.display
        await pilot.press("t")
        assert view.page.id == "log", "the keys are the dashboard's again"


async def test_what_costs_work_is_asked_about_in_the_bar_too(run: Path, door: Door) -> None:
    async with dashboard(run, (100, 30)) as (pilot, _):
        await pilot.press("colon", *"kill", "enter")
        await until(pilot, lambda: "Kill this run?" in screen_text(pilot.app), "the question")
        assert "What was learnt since the checkpoint of step 25 is lost." in screen_text(pilot.app)
        await pilot.press("escape")
        assert door.sent == []


async def test_what_the_trainer_does_not_offer_is_not_sent(run: Path, door: Door) -> None:
    async with dashboard(run, (100, 30)) as (pilot, view):
        view.action_snapshot()
        await until(pilot, lambda: told(pilot))
        assert told(pilot)[-1].startswith("This trainer does not take 'snapshot'")
        await pilot.press("f5")
        assert told(pilot)[-1] == "The run is running: p pauses it, Shift+F5 stops it."
        assert door.sent == []


async def test_an_alarm_is_told_and_one_key_applies_what_it_proposes(run: Path, door: Door) -> None:
    async with dashboard(run, (100, 30)) as (pilot, _):
        journal = Journal(run / "journal" / "trainer-1.jsonl")
        propose = {"op": "set", "args": {"key": "learning_rate", "value": 5e-5}}
        journal.emit("alarm", kind="divergence", step=30, text="the loss has risen by half", propose=propose)
        await until(pilot, lambda: "Proposed: set learning_rate=5.00e-5 (y does it)" in screen_words(pilot.app), "the alarm")
        await until(pilot, lambda: told(pilot), "the toast")
        assert told(pilot) == ["divergence at step 30: the loss has risen by half. y: set learning_rate=5.00e-5"]
        await pilot.press("y")
        await until(pilot, lambda: "Set learning_rate to 5.00e-5?" in screen_text(pilot.app), "the confirmation")
        await pilot.press("y")
        await until(pilot, lambda: door.sent, "the command")
        assert door.sent == [("set", {"key": "learning_rate", "value": 5e-5})]


async def test_old_alarms_are_no_toasts_when_a_run_is_opened(run: Path) -> None:
    Journal(run / "journal" / "trainer-1.jsonl").emit("alarm", kind="plateau", step=30, text="no progress")
    async with dashboard(run, (100, 30)) as (pilot, _):
        assert "plateau at step 30" in screen_text(pilot.app)
        assert told(pilot) == []


async def test_a_paused_run_says_so_and_f5_goes_on(run: Path, door: Door) -> None:
    Journal(run / "journal" / "trainer-1.jsonl").emit("state", s="paused", step=30, why="paused by ada")
    async with dashboard(run, (100, 30)) as (pilot, _):
        assert "‖ paused" in screen_text(pilot.app)
        assert "‖ Paused by ada after step 30. F5 goes on" in screen_text(pilot.app)
        await pilot.press("f5")
        await until(pilot, lambda: "Training goes on with step 31, at once." in screen_text(pilot.app), "the question")
        await pilot.press("y")
        await until(pilot, lambda: door.sent, "the command")
        assert door.sent == [("resume", {})]


async def test_the_queue_and_the_samples_have_pages(run: Path) -> None:
    async with dashboard(run, (100, 30)) as (pilot, _):
        Journal(run / "journal" / "hub.jsonl").emit("command", id="a", op="save", args={}, by="bob")
        await pilot.press("q")
        await until(pilot, lambda: "save by bob  waits for" in screen_text(pilot.app), "the command")
        assert "1 waiting" in screen_text(pilot.app)
        journal = Journal(run / "journal" / "trainer-1.jsonl")
        journal.emit("sample", step=30, prompt_id="p", prompt="Capital?", text="Paris.", base="It is Paris.", stopped=True, repetition=0.0)
        await pilot.press("a")
        await until(pilot, lambda: "It is Paris." in screen_text(pilot.app), "the base answer")
        assert "✓ ended" in screen_text(pilot.app)
        await pilot.press("escape")
        assert "loss" in screen_text(pilot.app)


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[RunDirectory]:
    """The runs that were handed to `tuitune resume`."""
    found: list[RunDirectory] = []

    def resume(run: RunDirectory, start: str | None = None) -> launch.Resumed:
        found.append(run)
        return launch.Resumed(run, 2, "checkpoint-25", False, f"{run.name} goes on")

    monkeypatch.setattr(launch, "resume_run", resume)
    return found


def ended(root: Path) -> Path:
    """A run that was killed at step 40 of 60, with a whole checkpoint of step 25 and half a one of step 40."""
    path = journals.write_run(root, steps=40, max_steps=60, final="stopped")
    for step in (25, 40):
        (path / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)
    (path / "checkpoints" / "checkpoint-25" / "tuitune-ok.json").write_text('{"files": {}}')
    return path


async def test_f5_on_an_ended_run_asks_and_resumes_it_from_its_last_whole_checkpoint(tmp_path: Path, resumed: list[RunDirectory]) -> None:
    path = ended(tmp_path)
    async with dashboard(path, (100, 30)) as (pilot, _):
        await pilot.press("f5")
        await until(pilot, lambda: f"Resume {path.name}?" in screen_text(pilot.app), "the question")
        text = screen_words(pilot.app)
        assert "It was stopped at step 40 of 60" in text
        assert "goes on from the checkpoint of step 25" in text
        assert "Steps 26 to 40 are trained again." in text
        await pilot.press("y")
        await until(pilot, lambda: resumed, "the resume")
        assert [run.path for run in resumed] == [path]


async def test_f5_in_the_runs_table_resumes_the_run_under_the_cursor_and_opens_it(tmp_path: Path, resumed: list[RunDirectory]) -> None:
    path = ended(tmp_path)
    app = Host(RunsTable(tmp_path))
    async with app.run_test(size=(100, 20)) as pilot:
        await until(pilot, lambda: "gsm8k-2026" in screen_text(app))
        await pilot.press("f5")
        await until(pilot, lambda: "Resume gsm8k" in screen_text(app), "the question")
        await pilot.press("enter")
        await until(pilot, lambda: app.asked, "the dashboard")
        assert app.asked == [("run", path)]
        assert [run.path for run in resumed] == [path]


async def test_a_run_whose_hub_was_killed_gets_another_one(
    tmp_path: Path, resumed: list[RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuitune.workbench.views.run.resuming.without_hub", lambda manifest: True)
    path = ended(tmp_path)
    app = Host(RunsTable(tmp_path))
    async with app.run_test(size=(100, 20)) as pilot:
        await until(pilot, lambda: "gsm8k-2026" in screen_text(app))
        await pilot.press("f5")
        await until(pilot, lambda: "it gets another hub" in screen_words(app), "the question")
        await pilot.press("y")
        await until(pilot, lambda: resumed, "the resume")
        assert [run.path for run in resumed] == [path]


async def test_a_run_that_is_done_is_not_resumed_and_a_refusal_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed: list[RunDirectory]
) -> None:
    async with dashboard(journals.write_run(tmp_path / "a"), (100, 30)) as (pilot, _):
        await pilot.press("f5")
        await until(pilot, lambda: told(pilot))
        assert told(pilot) == ["gsm8k is done: all 60 steps are trained."]
    assert resumed == []

    def refuse(run: RunDirectory, start: str | None = None) -> None:
        raise UserError("another hub has this run")

    monkeypatch.setattr(launch, "resume_run", refuse)
    async with dashboard(ended(tmp_path / "b"), (100, 30)) as (pilot, _):
        await pilot.press("f5")
        await until(pilot, lambda: "Resume gsm8k" in screen_text(pilot.app), "the question")
        await pilot.press("y")
        await until(pilot, lambda: told(pilot))
        assert told(pilot) == ["another hub has this run"]
