"""An ended run goes on from a checkpoint that is chosen from a list: `tuitune resume RUN --from checkpoint-N` by keys."""

from pathlib import Path

import pytest

from tests.pilot.run.host import Host, dashboard, screen_text, screen_words, until
from tests.support import journals
from tuitune.hub import launch
from tuitune.runs.directory import RunDirectory
from tuitune.workbench.views.run.checkpoint_picker import kept_checkpoints
from tuitune.workbench.views.runs_table import RunsTable

SMALL = (80, 24)


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str | None]]:
    """What was handed to `tuitune resume`: the run, and the checkpoint to go on from."""
    found: list[tuple[Path, str | None]] = []

    def resume(run: RunDirectory, start: str | None = None) -> launch.Resumed:
        found.append((run.path, start))
        return launch.Resumed(run, 2, start, False, f"{run.name} goes on")

    monkeypatch.setattr(launch, "resume_run", resume)
    return found


def ended(root: Path, *steps: int) -> Path:
    """A run that was stopped at step 50 of 60, with whole checkpoints of these steps and half a one of step 50."""
    path = journals.write_run(root, steps=50, max_steps=60, final="stopped")
    for step in (*steps, 50):
        (path / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)
    for step in steps:
        (path / "checkpoints" / f"checkpoint-{step}" / "tuitune-ok.json").write_text('{"files": {}}')
    return path


async def test_f5_then_c_lists_the_whole_checkpoints_with_their_loss_and_the_chosen_one_is_resumed_from(
    tmp_path: Path, resumed: list[tuple[Path, str | None]]
) -> None:
    path = ended(tmp_path, 20, 30, 40)
    async with dashboard(path, SMALL) as (pilot, _):
        await pilot.press("f5")
        await until(pilot, lambda: "goes on from the checkpoint of step 40" in screen_words(pilot.app), "the question")
        await pilot.press("c")
        await until(pilot, lambda: "step 20" in screen_text(pilot.app), "the list")
        lines = [line for line in screen_text(pilot.app).splitlines() if "eval loss" in line]
        offered = [" ".join(line.split()[:2]).strip("│ ") for line in lines]
        assert offered == ["step 40", "step 30", "step 20"], "the half one of step 50 is not"
        assert "at step 20" in lines[1], "an evaluation of an earlier step says of which"
        assert "at step" not in lines[2]

        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: "goes on from the checkpoint of step 20" in screen_words(pilot.app), "the question again")
        words = screen_words(pilot.app)
        assert "Steps 21 to 50 are trained again." in words
        assert "Later checkpoints (of steps 30, 40) are kept in checkpoints/aside." in words
        assert resumed == []
        await pilot.press("y")
        await until(pilot, lambda: resumed, "the resume")
        assert resumed == [(path, "checkpoint-20")]


async def test_escape_in_the_list_leaves_the_choice_as_it_was_and_typing_finds_a_step(
    tmp_path: Path, resumed: list[tuple[Path, str | None]]
) -> None:
    ended(tmp_path, 20, 30, 40)
    app = Host(RunsTable(tmp_path))
    async with app.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: "gsm8k-2026" in screen_text(app))
        await pilot.press("f5")
        await until(pilot, lambda: "From another checkpoint" in screen_text(app), "the question")
        await pilot.press("c")
        await until(pilot, lambda: "step 20" in screen_text(app), "the list")
        await pilot.press("escape")
        await until(pilot, lambda: "goes on from the checkpoint of step 40" in screen_words(app), "the question as it was")
        await pilot.press("c", *"30", "enter")
        await until(pilot, lambda: "goes on from the checkpoint of step 30" in screen_words(app), "the question of step 30")
        await pilot.press("escape")
        await pilot.pause()
        assert resumed == []
        assert app.asked == []


async def test_one_checkpoint_is_no_choice(tmp_path: Path, resumed: list[tuple[Path, str | None]]) -> None:
    path = ended(tmp_path, 25)
    async with dashboard(path, SMALL) as (pilot, _):
        await pilot.press("f5")
        await until(pilot, lambda: "goes on from the checkpoint of step 25" in screen_words(pilot.app), "the question")
        assert "From another checkpoint" not in screen_text(pilot.app)
        await pilot.press("y")
        await until(pilot, lambda: resumed, "the resume")
        assert resumed == [(path, None)], "the hub takes the newest whole one, and passes over what is damaged"


def test_a_checkpoint_before_any_evaluation_shows_its_training_loss(tmp_path: Path) -> None:
    found = kept_checkpoints(RunDirectory(ended(tmp_path, 10, 30)))
    assert [(one.name, one.step) for one in found] == [("checkpoint-30", 30), ("checkpoint-10", 10)]
    assert found[0].worth.startswith("eval loss ")
    assert found[0].worth.endswith(" at step 20")
    assert found[1].worth.startswith("loss ")
    assert "at step" not in found[1].worth
