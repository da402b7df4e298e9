"""Preflight in the workbench by keys: the check, its list, the way to each finding, fixes and their undo. What it finds is the tests'."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pilot.editor.driver import RECIPE, Driver, editing
from tests.support.fake_preflight import FakePreflight
from tuitune.errors import UserError
from tuitune.files import cache_dir
from tuitune.preflight.finding import Change, Finding, Fix, NewFile, Where
from tuitune.workbench import check_control
from tuitune.workbench.views import token_view

STEPS = RECIPE.splitlines().index("  max_steps: 3") + 1


def found_in(recipe: Path) -> list[Finding]:
    """One finding of each kind of place, errors last."""
    data, model = str(recipe.parent / "train.jsonl"), recipe.parent / "model"
    return [
        Finding("DAT13", "info", "t", "row 41 is cut", Where(data, 42, split="train", row=41, view="dataset")),
        Finding("TPL01", "warning", "t", "the template\x1b[31m is another", Where(str(model / "notes.jinja"), 2)),
        Finding("TRN07", "error", "t", "3 steps are too few", Where(str(recipe), STEPS, 14, key="training.max_steps", view="recipe")),
    ]


LONGER = Fix("Train 100 steps", automatic=True, changes=(Change(("training", "max_steps"), 100),), files=(NewFile("why.txt", "so"),))


def too_short(text: str) -> list[Finding]:
    """A finding that its fix makes go away."""
    where = Where(key="training.max_steps", view="recipe")
    return [Finding("TRN07", "error", "t", "3 steps are too few", where, {"steps": 3}, LONGER)] if "max_steps: 3\n" in text else []


@pytest.fixture
def preflight(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipe: Path) -> FakePreflight:
    """Finds `found_in`; beside the recipe are the files that it names."""
    schema = cache_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tuitune").mkdir()
    for file in schema.glob("schema-*.json"):  # it takes seconds to make
        (tmp_path / "cache" / "tuitune" / file.name).symlink_to(file)
    (recipe.parent / "model").mkdir()
    (recipe.parent / "model" / "notes.jinja").write_text("first\nsecond\nthird\n")
    (recipe.parent / "train.jsonl").write_text("".join(f'{{"question": "{n}", "answer": "a{n}"}}\n' for n in range(60)))
    fake = FakePreflight(*found_in(recipe))
    monkeypatch.setattr(check_control, "run_preflight", fake)
    return fake


async def check(driver: Driver) -> None:
    await driver.press("alt+p")
    await driver.until(lambda: "preflight for CPU:" in driver.screen)


def shows(driver: Driver, *words: str) -> Callable[[], bool]:
    return lambda: all(word in driver.screen for word in words)


async def test_findings_come_as_they_are_found_errors_first_and_the_same_key_ends_it(recipe: Path, preflight: FakePreflight) -> None:
    preflight.go_on.clear()
    async with editing(recipe) as driver:
        await driver.press("alt+p")
        await driver.until(shows(driver, "PROBLEMS 3", "preflight goes on: rows … (Alt+P ends it)", "preflight: rows …"))
        assert [entry.id for entry in driver.app.panel.entries] == ["TRN07", "TPL01", "DAT13"]
        await driver.press("alt+p")
        await driver.until(shows(driver, "preflight did not come to its end", "✗ 1  ⚠ 1"))
        assert "preflight: rows" not in driver.screen


async def test_foreign_text_is_shown_and_not_obeyed(recipe: Path, preflight: FakePreflight) -> None:
    async with editing(recipe) as driver:
        await check(driver)
        assert "the template␛[31m is another" in driver.screen


async def test_f8_walks_from_the_recipe_to_a_text_to_the_row_of_the_data_and_round(recipe: Path, preflight: FakePreflight) -> None:
    async with editing(recipe) as driver:
        await check(driver)
        await driver.press("f8")
        await driver.until(lambda: driver.view.place == (STEPS, 14))
        await driver.press("f8")
        await driver.until(lambda: driver.app.editor.active.kind == "text" and "second" in driver.screen)
        preview = driver.app.editor.active
        await driver.until(lambda: preview._list.cursor == 1)
        await driver.press("f8")
        await driver.until(lambda: driver.app.editor.active.status.startswith("row 42 of 60"))
        assert "TRN07" in driver.screen, "the recipe's list stays while one looks at its data"
        await driver.press("f8")
        await driver.until(lambda: driver.app.editor.active.kind == "recipe")


async def test_enter_opens_a_row_in_the_token_view(recipe: Path, preflight: FakePreflight, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Analyst:
        def request(self, op, args, **hooks):
            asked.append((op, args.get("rows")))
            raise UserError("it prepares nothing here")

    monkeypatch.setattr(token_view, "analyst_of", lambda app: Analyst())
    data = str(recipe.parent / "train.jsonl")
    preflight.find = lambda text: [
        Finding("DAT14", "error", "t", "nothing is trained", Where(data, 18, split="train", row=17, view="tokens"))
    ]
    async with editing(recipe) as driver:
        await check(driver)
        driver.app.panel.focus_list()
        await driver.press("home", "enter")
        await driver.until(lambda: driver.app.editor.active.kind == "tokens" and ("inspect", [17]) in asked)


async def test_typing_makes_findings_stale_and_taking_it_back_fresh(recipe: Path, preflight: FakePreflight) -> None:
    async with editing(recipe) as driver:
        await check(driver)
        await driver.until(shows(driver, "✗ 1  ⚠ 1"))
        await driver.at(1, 8)
        await driver.type("x")
        await driver.until(shows(driver, "the recipe has changed since preflight", "✗ TRN07", "✗ 0  ⚠ 0"))
        await driver.press("ctrl+z")
        await driver.until(lambda: "preflight for CPU" in driver.screen)
        await driver.until(shows(driver, "✗ 1  ⚠ 1"))


async def test_a_check_saves_first(recipe: Path, preflight: FakePreflight) -> None:
    async with editing(recipe) as driver:
        await driver.at(1, 8)
        await driver.type("x")
        await driver.press("alt+p")
        await driver.until(shows(driver, "PROBLEMS 3"))
        assert recipe.read_text().startswith("# staysx")


async def test_f_shows_what_changes_writes_it_and_checks_again_and_two_ways_lead_back(recipe: Path, preflight: FakePreflight) -> None:
    preflight.find = too_short
    async with editing(recipe) as driver:
        await check(driver)
        driver.app.panel.focus_list()
        await driver.press("f")
        await driver.question("Confirm")
        assert shows(driver, "Train 100 steps?", "-   max_steps: 3", "+   max_steps: 100", "writes why.txt")()
        assert recipe.read_text() == RECIPE
        await driver.press("enter")
        await driver.until(shows(driver, "preflight for CPU: nothing found"))
        assert "max_steps: 100" in recipe.read_text()
        assert (recipe.parent / "why.txt").read_text() == "so"
        assert driver.view.text == recipe.read_text()
        assert not driver.view.dirty
        driver.view.focus_content()
        await driver.press("ctrl+z")
        await driver.until(lambda: driver.view.text == RECIPE and driver.view.dirty)
        await driver.press("ctrl+y")
        await driver.until(lambda: not driver.view.dirty)

        await driver.press("f1", *"undo last", "enter")
        await driver.question("Confirm")
        assert shows(driver, "+   max_steps: 3", "Files that the fix has written stay.")()
        await driver.press("enter")
        await driver.until(lambda: recipe.read_text() == RECIPE and shows(driver, "TRN07")())
        assert driver.view.text == RECIPE


async def test_a_fix_does_not_write_below_unsaved_changes(recipe: Path, preflight: FakePreflight) -> None:
    preflight.find = too_short
    async with editing(recipe) as driver:
        await check(driver)
        await driver.at(1, 8)
        await driver.type("x")
        driver.app.panel.focus_list()
        await driver.press("f")
        await driver.until(lambda: "has unsaved changes: save them first (Ctrl+S)" in driver.told)
        assert recipe.read_text() == RECIPE


async def test_a_fix_of_a_text_that_changed_on_disk_writes_nothing(recipe: Path, preflight: FakePreflight) -> None:
    preflight.find = too_short
    async with editing(recipe) as driver:
        await check(driver)
        driver.app.panel.focus_list()
        await driver.press("f")
        await driver.question("Confirm")
        recipe.write_text(RECIPE + "# theirs\n")
        await driver.press("enter")
        await driver.until(lambda: "has changed since it was checked" in driver.told)
        assert recipe.read_text() == RECIPE + "# theirs\n"


async def test_f_on_a_live_problem_is_the_editors_own_fix(recipe: Path, preflight: FakePreflight) -> None:
    async with editing(recipe, RECIPE.replace("max_steps", "max_step")) as driver:
        await driver.until(lambda: driver.app.panel.entries)
        await driver.press("ctrl+t", "f")
        await driver.until(lambda: "  max_steps: 3" in driver.view.text)
        assert driver.view.dirty


async def test_e_explains_with_evidence_and_the_checks_documentation_and_f_fixes_from_there(recipe: Path, preflight: FakePreflight) -> None:
    preflight.find = lambda text: [Finding("EMB01", *f[1:]) for f in map(as_tuple, too_short(text))]
    async with editing(recipe, size=(80, 24)) as driver:
        await driver.press("alt+p")
        await driver.until(lambda: driver.app.panel.entries)
        driver.app.panel.focus_list()
        await driver.press("home", "e")
        await driver.question("Explanation")
        assert shows(driver, "EMB01 error", "3 steps are too few", "steps: 3", "Train 100 steps", "f fixes it")()
        await driver.press("pagedown", "pagedown")
        await driver.until(lambda: "Known from" in driver.screen)
        await driver.press("f")
        await driver.question("Confirm")


def as_tuple(finding: Finding) -> tuple:
    return (finding.id, finding.severity, finding.title, finding.message, finding.where, finding.evidence, finding.fix)


async def test_a_finding_without_a_fix_says_so(recipe: Path, preflight: FakePreflight) -> None:
    async with editing(recipe) as driver:
        await check(driver)
        driver.app.panel.focus_list()
        await driver.press("home", "f")
        await driver.until(lambda: "TRN07 has no fix that could be applied for you; e says what to do." in driver.told)


async def test_a_recipe_that_cannot_be_read_is_told_and_the_check_is_over(recipe: Path, preflight: FakePreflight) -> None:
    async with editing(recipe) as driver:
        recipe.unlink()
        await driver.until(lambda: driver.view.dirty)  # the editor has noticed that the file is gone, and would write it again
        driver.app.run_worker(check_control.look(driver.app, recipe))
        await driver.until(lambda: "cannot be read" in driver.told and driver.app.checking is None)
        assert "preflight did not come to its end" in driver.app.panel.headline
