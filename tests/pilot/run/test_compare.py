"""Runs beside each other: marked in the table, then one chart of all of them and the values in which they differ."""

from pathlib import Path

from tests.pilot.run.host import Host, screen_text, screen_words, until
from tests.support import journals
from tests.unit.runs.test_compare import A, B, pair
from tuitune.workbench.views.compare_view import CompareView, comparison_path
from tuitune.workbench.views.runs_table import RunsTable


async def test_marked_runs_are_compared(tmp_path: Path) -> None:
    """Space marks and goes on, c opens the comparison; a single marked run is compared with the one under the cursor."""
    pair(tmp_path)
    app = Host(RunsTable(tmp_path))
    async with app.run_test(size=(100, 20)) as pilot:
        await until(pilot, lambda: A in screen_text(app))
        await pilot.press("c")
        assert app.told == ["Mark two or more runs first (Space)."]
        await pilot.press("home", "space")
        await until(pilot, lambda: "● ✓ done" in screen_text(app), "the mark")
        await pilot.press("c")
        await until(pilot, lambda: app.asked)
        assert app.asked == [("compare", tmp_path / f"{B}+{A}")]
        await pilot.press("space", "home", "space")
        await pilot.press("c")
        assert app.told[-1].startswith("Mark two or more runs"), "the first is marked no more"


async def test_one_chart_has_the_curves_of_all_runs_and_below_it_stand_the_differences(tmp_path: Path) -> None:
    pair(tmp_path)
    app = Host(CompareView(comparison_path(tmp_path, [A, B])))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "training.warmup_steps" in screen_text(app), "the differences")
        await until(pilot, lambda: "━ A 0." in screen_text(app), "the curves")
        words = screen_words(app)
        for piece in (f"A ━ {A} ✓ done step 60/60 loss 0.", f"B ━ {B} ✓ done", "best eval 0.", "━ B 0."):
            assert piece in words
        for row in ("recipe peft.r 16 32", "recipe training.warmup_steps – 5", "ledger model.dtype bfloat16 float32"):
            assert row in words
        await pilot.press("o")
        await until(pilot, lambda: "eval loss  ━ A 0." in screen_text(app), "the next metric")
        await pilot.press("left", "left")
        assert "eval loss at step" in screen_text(app)
        await pilot.press("0", "l")
        assert "at step" not in screen_text(app)
        assert " log" in screen_text(app)


async def test_a_run_that_still_trains_grows_in_the_comparison(tmp_path: Path) -> None:
    journals.write_run(tmp_path, A)
    living = journals.living(journals.write_run(tmp_path, B, steps=20, max_steps=60, final=None))
    app = Host(CompareView(comparison_path(tmp_path, [A, B])))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "▶ running    step 20/60" in screen_text(app), "the living run")
        later = {"v": 1, "n": 999, "t": journals.START + 30, "ev": "metrics", "step": 21, "max_steps": 60, "loss": 0.1234}
        journals.append(living, "trainer-1", [later])
        await until(pilot, lambda: "step 21/60  loss 0.1234" in screen_text(app), "its next step")


async def test_a_run_that_is_gone_costs_its_curve_and_a_sentence(tmp_path: Path) -> None:
    pair(tmp_path)
    app = Host(CompareView(comparison_path(tmp_path, [A, "gone"])))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "gone:" in screen_text(app), "the sentence")
        await until(pilot, lambda: "━ A 0." in screen_text(app), "the curve")
