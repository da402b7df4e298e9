"""Starting, finding and stopping runs by keys. The hub itself is tested in tests/unit/hub and tests/e2e; here its door is replaced."""

import os
from pathlib import Path

import pytest

from tests.pilot.shell.conftest import Driver, workbench
from tests.pilot.shell.plain_recipe import PlainRecipe
from tests.support.fake_preflight import FakePreflight
from tests.support.journals import write_run
from tuitune.errors import UserError
from tuitune.preflight.finding import Finding
from tuitune.preflight.gate import Passed
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Process, read_manifest, write_manifest
from tuitune.workbench import check_control, run_control
from tuitune.workbench.views import catalog


@pytest.fixture(autouse=True)
def preflight(monkeypatch):
    """Finds nothing unless a test says so; the recipe editor is a plain one."""
    monkeypatch.setitem(catalog.KINDS, "recipe", f"{PlainRecipe.__module__}:PlainRecipe")
    fake = FakePreflight()
    monkeypatch.setattr(check_control, "run_preflight", fake)
    return fake


def living_run(folder: Path, name: str = "demo-20261121-090000") -> Path:
    """A run that counts as alive: its hub is this test's process."""
    path = write_run(folder / "runs", name, steps=60, max_steps=400, final=None)
    manifest = read_manifest(RunDirectory(path))
    manifest.hub = manifest.trainer = Process.of(os.getpid())
    write_manifest(RunDirectory(path), manifest)
    return path


@pytest.fixture
def launched(folder, monkeypatch):
    """What was handed to the hub: recipe text at that moment."""
    texts: list[str] = []

    def launch(path: Path, workspace: Path, leave: Passed) -> Path:
        texts.append(path.read_text() + "".join(f" forced {id}" for id in leave.overridden))
        assert texts[-1].startswith(leave.checked)
        return living_run(workspace)

    monkeypatch.setattr(run_control, "_launch", launch)
    return texts


async def test_f5_asks_then_starts_and_shows_the_run(folder, launched):
    """The question names method, model, data and device; Enter starts; the dashboard opens; the status bar follows the run."""
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.press("f5")
        await screen.until("Train demo?")
        assert "LoRA sft of HuggingFaceTB/SmolLM2-135M-Instruct" in screen.text
        assert "on data/train.jsonl" in screen.text
        await screen.press("enter")
        await screen.until(lambda: screen.tabs == "demo.yaml [demo-20261121-090000]")
        await screen.until("▶ 60/400")
        assert len(launched) == 1
        await screen.press("alt+comma")
        await screen.until("▶ demo 60/400 loss")


@pytest.mark.parametrize(("keys", "starts"), [("ctrl+r escape", 0), ("ctrl+r enter", 1), ("f5 y", 1)])
async def test_the_question_can_be_refused(folder, launched, keys, starts):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        first, second = keys.split()
        await screen.press(first)
        await screen.until("Train demo?")
        await screen.press(second)
        await screen.until(lambda: len(screen.app.screen_stack) == 1 and len(launched) == starts)


async def test_unsaved_changes_are_saved_first_and_the_question_says_so(folder, launched):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.type("x")
        await screen.press("f5")
        await screen.until("Saves demo.yaml first.")
        await screen.press("enter")
        await screen.until(lambda: launched)
        assert launched[0].endswith("# x\n")


async def test_nothing_starts_when_saving_fails(folder, launched):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.type("unwritable")
        await screen.press("f5")
        await screen.until("Train demo?")
        await screen.press("enter")
        await screen.until("The disk is full.")
        assert launched == []


async def test_errors_refuse_and_lead_to_the_first(folder, launched):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.type("a warning error error")
        await screen.press("f5")
        await screen.until("demo.yaml has 2 errors")
        await screen.until("PROBLEMS 3")
        assert screen.app.editor.active.cursor == (3, 3)
        assert launched == []


ERROR = Finding("EMB01", "error", "t", "the embedding has 40 rows for 448 tokens")
WARNING = Finding("DAT13", "warning", "t", "9 of 10 rows are cut")


async def start_demo(screen: Driver, key: str = "f5") -> None:
    await screen.until(lambda: screen.focus == "recipe")
    await screen.press(key)
    await screen.until("Train demo?")
    await screen.press("enter")


async def test_what_preflight_calls_an_error_refuses_and_opens_the_panel(folder, launched, preflight):
    preflight.find = lambda text: [ERROR, WARNING]
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await start_demo(screen)
        told = "demo.yaml has 1 error: F8 goes there. To train all the same: F1, Run in spite of errors."
        await screen.until(lambda: any(told in text for _, text in screen.app.panel.lines))
        await screen.until(lambda: screen.focus == "panel" and "EMB01" in screen.text)
        assert launched == []


async def test_the_palette_forces_after_a_question_that_lists_the_errors(folder, launched, preflight):
    preflight.find = lambda text: [ERROR]
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.press("f1")
        await screen.type("in spite")
        await start_from_palette(screen)
        await screen.until("1 error: train demo.yaml anyway?")
        assert "the embedding has 40 rows" in screen.text
        await screen.press("y")
        await screen.until(lambda: launched)
        assert launched[0].endswith(" forced EMB01")


async def start_from_palette(screen: Driver) -> None:
    await screen.press("enter")
    await screen.until("Train demo?")
    await screen.press("enter")


async def test_a_recipe_that_cannot_be_built_cannot_be_forced(folder, launched, preflight):
    preflight.find, preflight.valid = lambda text: [ERROR], False
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.press("f1")
        await screen.type("in spite")
        await start_from_palette(screen)
        await screen.until("demo.yaml has 1 error: F8 goes there.")
        assert launched == []


@pytest.mark.parametrize(("key", "starts"), [("y", 1), ("enter", 0), ("escape", 0)])
async def test_a_warning_asks_and_enter_shows_it_first(folder, launched, preflight, key, starts):
    preflight.find = lambda text: [WARNING]
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await start_demo(screen)
        await screen.until("1 warning: train demo.yaml anyway?")
        await screen.press(key)
        await screen.until(lambda: len(screen.app.screen_stack) == 1 and len(launched) == starts)
        if key == "enter":
            await screen.until(lambda: screen.focus == "panel")


async def test_a_report_made_a_moment_ago_counts_until_something_changes(folder, launched, preflight):
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.press("alt+p")
        await screen.until("preflight for CPU: nothing found")
        await start_demo(screen)
        await screen.until(lambda: len(launched) == 1)
        assert preflight.runs == 1
        (folder / "data" / "train.jsonl").write_text('{"question": "1", "answer": "2"}\n')
        await screen.press("alt+comma")
        await start_demo(screen)
        await screen.until(lambda: len(launched) == 2)
        assert preflight.runs == 2


async def test_a_check_that_is_ended_starts_nothing(folder, launched, preflight):
    preflight.go_on.clear()
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await start_demo(screen)
        await screen.until("preflight: rows …")
        await screen.press("alt+p")
        await screen.until("The check did not come to its end: nothing was started.")
        assert launched == []


async def test_what_the_hub_says_when_it_does_not_start_is_shown(folder, monkeypatch):
    def refuse(path: Path, workspace: Path, leave: Passed) -> Path:
        raise UserError("the hub did not start: no space left")

    monkeypatch.setattr(run_control, "_launch", refuse)
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.press("f5")
        await screen.until("Train demo?")
        await screen.press("enter")
        await screen.until("no space left")
        assert screen.tabs == "[demo.yaml]"


async def test_a_living_run_is_announced_and_a_key_opens_it(folder):
    living_run(folder)
    write_run(folder / "runs", "old-20261120-090000")
    async with workbench(folder) as screen:
        await screen.until("Alt+R opens it")
        await screen.until("▶ demo 60/400")
        await screen.press("alt+r")
        await screen.until(lambda: screen.tabs == "[demo-20261121-090000]")


async def test_runs_are_in_the_explorer_and_in_quick_open(folder):
    write_run(folder / "runs", "old-20261120-090000")
    async with workbench(folder) as screen:
        await screen.until("✓ old-20261120-090000")
        await screen.press("ctrl+p")
        await screen.type("old")
        await screen.press("enter")
        await screen.until(lambda: screen.tabs == "[old-20261120-090000]")


async def test_alt_2_shows_the_table_of_runs(folder):
    write_run(folder / "runs", "old-20261120-090000")
    async with workbench(folder) as screen:
        await screen.press("alt+2")
        await screen.until(lambda: screen.tabs == "[runs]" and "old-20261120-090000" in screen.text)


@pytest.mark.parametrize(("key", "save"), [("enter", True), ("s", True), ("d", False), ("escape", None)])
async def test_stopping_asks_and_sends(folder, monkeypatch, key, save):
    run = living_run(folder)
    sent = []
    monkeypatch.setattr(run_control, "_send", lambda path, op, args: sent.append((path, op, args)) or {"s": "queued"})
    async with workbench(folder) as screen:
        await screen.until("▶ demo 60/400")
        await screen.press("shift+f5")
        await screen.until("Stop demo at step 60 of 400?")
        await screen.press(key)
        await screen.until(lambda: len(screen.app.screen_stack) == 1)
        if save is not None:
            await screen.until("stop queued")
        assert sent == ([] if save is None else [(run, "stop", {"save": save})])


async def test_stop_acts_on_the_run_on_screen_wherever_it_lies(folder, tmp_path, monkeypatch):
    """One run of this folder lives, and the dashboard shows one that lies elsewhere."""
    living_run(folder, "here-20261121-090000")
    other = living_run(tmp_path / "elsewhere", "there-20261121-090000")
    sent = []
    monkeypatch.setattr(run_control, "_send", lambda path, op, args: sent.append(path) or {"s": "queued"})
    async with workbench(folder, open_path=other) as screen:
        await screen.until(lambda: screen.tabs == "[there-20261121-090000]")
        await screen.press("shift+f5")
        await screen.until("Stop there at step 60 of 400?")
        await screen.press("enter")
        await screen.until("stop queued")
        assert sent == [other]


async def test_a_run_that_output_runs_put_elsewhere_is_seen(folder):
    """As the launcher makes it: a link in the folder's runs."""
    other = living_run(folder / "big")
    (folder / "runs").mkdir()
    (folder / "runs" / other.name).symlink_to(other)
    async with workbench(folder) as screen:
        await screen.until("▶ demo 60/400")
        await screen.press("alt+r")
        await screen.until(lambda: screen.tabs == "[demo-20261121-090000]" and screen.app.editor.active.path == other)


async def test_stopping_without_a_run_says_so(folder):
    async with workbench(folder) as screen:
        await screen.press("shift+f5")
        await screen.until("No run is alive in this folder.")


async def test_the_queue_lists_what_is_alive(folder):
    living_run(folder)
    async with workbench(folder) as screen:
        await screen.until("▶ demo 60/400")
        await screen.press("ctrl+t right right")
        await screen.until("QUEUE 1")
        await screen.press("enter")
        await screen.until(lambda: screen.tabs == "[demo-20261121-090000]")


async def test_a_folder_that_cannot_be_written_refuses_with_the_reason(folder, monkeypatch):
    """The real door: the folder for runs cannot be made."""
    monkeypatch.setattr("tuitune.hub.launch.validate", lambda document, schema: [])
    monkeypatch.setattr("tuitune.hub.launch.load_schema", lambda: None)
    (folder / "runs").write_text("a file where the folder should be")
    async with workbench(folder, open_path=folder / "demo.yaml") as screen:
        await screen.until(lambda: screen.focus == "recipe")
        await screen.press("f5")
        await screen.until("Train demo?")
        await screen.press("enter")
        await screen.until("Not started")
        assert screen.tabs == "[demo.yaml]"
