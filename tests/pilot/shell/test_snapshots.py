"""Pictures of the shell. Each docstring says what must be seen; update with --snapshot-update after looking at the report."""

import pytest

from tests.pilot.shell.conftest import Driver
from tests.pilot.shell.plain_recipe import PlainRecipe
from tuitune.workbench.app import Workbench
from tuitune.workbench.gpu_feed import GpuFeed
from tuitune.workbench.settings import Settings, save_settings
from tuitune.workbench.views import catalog


@pytest.fixture(autouse=True)
def _no_live_figures(monkeypatch):
    monkeypatch.setattr(GpuFeed, "watch", lambda self: None)
    monkeypatch.setitem(catalog.KINDS, "recipe", f"{PlainRecipe.__module__}:PlainRecipe")


@pytest.fixture
def picture(folder, snap_compare):
    """Open the folder with a theme, do something, compare."""

    def take(theme: str, size: tuple[int, int], keys: str, until: str, panel: bool = False, open_name: str = "") -> bool:
        save_settings(Settings(theme=theme, panel=panel))
        app = Workbench(folder, folder / open_name if open_name else None)

        async def before(pilot) -> None:
            screen = Driver(app, pilot)
            await screen.until(lambda: app.seen is not None and app.explorer.rows)
            if open_name:
                await screen.until(lambda: screen.focus in ("data", "text", "recipe"))
            if open_name.endswith(".jsonl"):
                await screen.until("300 rows")
                await screen.until("dataset.train[0]")  # the row has come, made by the recipe's mapping
            await screen.press(keys)
            await screen.until(until)

        return snap_compare(app, terminal_size=size, run_before=before)

    return take


def test_dark_with_data_and_output(picture):
    """Explorer with four sections, active tab on the editor's ground, a table, the row and what is made of it, OUTPUT underlined."""
    assert picture("tuitune-dark", (120, 40), "ctrl+t right", "OUTPUT", open_name="data/train.jsonl")


def test_light_narrow(picture):
    """80×24: the explorer as a drawer at the left, the welcome page beside it, one line of status with F1 at the right edge."""
    assert picture("tuitune-light", (80, 24), "down", "demo.yaml")


def test_ansi_palette(picture):
    """The command palette over the workbench in the terminal's own colours, keys at the right."""
    assert picture("ansi-dark", (120, 40), "f1", "Close tab")


def test_contrast_question(picture):
    """The question before a tab with changes is closed; Save is marked, both other ways are named."""
    assert picture("tuitune-contrast", (120, 40), "x ctrl+w", "Esc cancel", open_name="demo.yaml")


def test_night_large_and_split(picture):
    """200×50: nothing opened twice, panel below both panes."""
    assert picture("tuitune-night", (200, 50), "", "PROBLEMS", panel=True, open_name="notes.md")
