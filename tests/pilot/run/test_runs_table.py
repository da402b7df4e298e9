"""The runs table by keys."""

from pathlib import Path

from tests.pilot.run.host import Host, screen_text, until
from tests.support import journals
from tuitune.workbench.views import runs_table
from tuitune.workbench.views.runs_table import RunsTable


async def test_all_runs_are_listed_with_the_reason_of_the_one_under_the_cursor(tmp_path: Path) -> None:
    journals.write_run(tmp_path, "a-20261120-101500")
    journals.write_run(tmp_path, "b-20261120-101500", final="crash")
    app = Host(RunsTable(tmp_path))
    async with app.run_test(size=(100, 20)) as pilot:
        await until(pilot, lambda: "a-20261120" in screen_text(app))
        for piece in ("✓ done", "✗ failed", "60/60", "STEP", "RECIPE"):
            assert piece in screen_text(app)
        await pilot.press("home")
        assert "b-20261120-101500: The GPU ran out of memory" in screen_text(app)


async def test_enter_opens_the_run_under_the_cursor(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        journals.write_run(tmp_path, f"{name}-20261120-101500")
    app = Host(RunsTable(tmp_path))
    async with app.run_test(size=(100, 20)) as pilot:
        await until(pilot, lambda: "a-20261120" in screen_text(app))
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.asked)
        assert app.asked == [("run", tmp_path / "b-20261120-101500")]


async def test_a_run_that_starts_later_appears_and_the_cursor_stays_on_its_run(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(runs_table, "PERIOD", 0.05)
    journals.write_run(tmp_path, "a-20261120-101500")
    view = RunsTable(tmp_path)
    app = Host(view)
    async with app.run_test(size=(100, 20)) as pilot:
        await until(pilot, lambda: "a-20261120" in screen_text(app))
        journals.write_run(tmp_path, "z-20261120-101500")
        await until(pilot, lambda: "z-20261120" in screen_text(app))
        assert view.current is not None
        assert view.current.name == "a"


async def test_a_folder_without_runs_says_how_to_make_one(tmp_path: Path) -> None:
    app = Host(RunsTable(tmp_path / "runs"))
    async with app.run_test(size=(100, 20)) as pilot:
        await until(pilot, lambda: "press F5" in screen_text(app))
