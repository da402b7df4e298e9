"""The panel's QUEUE and SAMPLES show the run in front: its commands above the living runs, and what its model answers; alarms; --slow."""

from pathlib import Path

from tests.pilot.shell.conftest import workbench
from tests.support import journals
from tuitune.bus.journal import Journal
from tuitune.workbench.settings import load_settings
from tuitune.workbench.views.run_dashboard import RunDashboard


def living_run(folder: Path) -> Path:
    return journals.living(
        journals.write_run(folder / "runs", "demo-20261121-090000", steps=60, max_steps=400, final=None, caps=journals.LIVE_CAPS)
    )


async def test_the_queue_has_the_commands_of_the_run_in_front_above_the_living_runs(folder: Path) -> None:
    run = living_run(folder)
    async with workbench(folder) as screen:
        await screen.until("RUNS 1")
        await screen.press("alt+r")
        await screen.until("step 60/400")
        await screen.press("ctrl+t right right")
        await screen.until("demo-20261121-090000  running")
        hub = Journal(run / "journal" / "hub.jsonl")
        hub.emit("command", id="a", op="save", args={}, by="ada")
        await screen.until("… save by ada  waits for 00:0")
        Journal(run / "journal" / "trainer-1.jsonl").emit("applied", id="a", op="save", step=61, ok=True)
        await screen.until("✓ step 61    save applied by ada")
        assert "demo-20261121-090000  running" in screen.text, "the living runs stand below"


async def test_samples_have_a_page_of_their_own(folder: Path) -> None:
    run = living_run(folder)
    async with workbench(folder) as screen:
        await screen.until("RUNS 1")
        await screen.press("alt+r")
        await screen.until("step 60/400")
        await screen.press("ctrl+t left")
        await screen.until("No answers: open a run whose recipe has watch.prompts")
        journal = Journal(run / "journal" / "trainer-1.jsonl")
        journal.emit("sample", step=60, prompt_id="p", prompt="Capital?", text="Paris.\x1b[2J", stopped=True, repetition=0.5)
        await screen.until("SAMPLES 1")
        await screen.until("✓ repeats  50%  Capital?  Paris.␛[2J")
        await screen.press("escape ctrl+w")
        await screen.until("No answers")


async def test_a_toast_of_an_alarm_is_kept_in_output(folder: Path) -> None:
    run = living_run(folder)
    async with workbench(folder) as screen:
        await screen.until("RUNS 1")
        await screen.press("alt+r")
        await screen.until("step 60/400")
        Journal(run / "journal" / "trainer-1.jsonl").emit("alarm", kind="plateau", step=60, text="no progress for 50 steps")
        await screen.until("! plateau at step 60: no progress for 50 steps.")
        await screen.press("ctrl+t right")
        await screen.until("plateau at step 60: no progress for 50 steps.")


async def test_on_a_slow_line_the_run_is_painted_every_other_second_and_says_so(folder: Path) -> None:
    living_run(folder)
    async with workbench(folder, slow=True) as screen:
        await screen.until("RUNS 1")
        await screen.press("alt+r")
        await screen.until("· painted every 2 s")
        view = screen.app.editor.active
        assert isinstance(view, RunDashboard)
        view.pace.painted()
        assert view.pace.wait() > 1.5


async def test_the_line_is_called_slow_from_the_palette_said_in_the_status_bar_and_kept(folder: Path) -> None:
    async with workbench(folder) as screen:
        await screen.until("demo.yaml")
        assert "slow line" not in screen.text
        await screen.press("f1")
        await screen.type("Line to this")
        await screen.press("enter")
        await screen.until("Now: a good one (measured).")
        await screen.press("s")
        await screen.until("slow line (set)")
        assert screen.app.link.slow
    assert load_settings()[0].line == "slow"
    async with workbench(folder) as screen:
        await screen.until("slow line (set)")
        await screen.app.action_command("app.line")
        await screen.until("Now: slow line (set).")
        await screen.press("a")
        await screen.until(lambda: "slow line" not in screen.lines[-2] + screen.lines[-1])
    assert load_settings()[0].line == "auto"
