"""What has gone from the screen leaves no ghost, whatever was asked between its removal and the next layout."""

from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static
from textual.widgets._toast import Toast

from tests.pilot.widgets.test_cell_diff_session import Compared
from tuitune.workbench.app import Workbench
from tuitune.workbench.terminal.repaint import PaintedScreen


class Page(Compared, App[None]):
    """A page to scroll, on Textual's own screen."""

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield from (Static(f"line {number}") for number in range(100))


class PaintedPage(Page):
    def get_default_screen(self) -> PaintedScreen:
        return PaintedScreen()


async def ghost_lines(app: Page, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lines where a toast still stands after it has gone: it goes after a scroll, and before the layout somebody asks for a place."""
    app.open_terminals((80, 24))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.notify("HELLO", timeout=600)
        while not app.screen.query(Toast) or "HELLO" not in "".join(app.stock.screen.display):
            await pilot.pause(0.02)
        app.screen.query_one(VerticalScroll).scroll_to(y=3, animate=False)
        while "line 3 " not in app.stock.screen.display[0]:
            await pilot.pause(0.02)
        layout = app.screen._refresh_layout

        def asked_before(*args: Any, **options: Any) -> None:
            assert app.screen._compositor.full_map
            layout(*args, **options)

        app.screen._compositor._full_map_invalidated = True  # as a scroll leaves it
        monkeypatch.setattr(app.screen, "_refresh_layout", asked_before)
        app.screen.query_one(Toast)._expire()
        while app.screen.query(Toast):
            await pilot.pause(0.02)
        await pilot.pause(0.1)
        await pilot.pause()
        return [number for number, line in enumerate(app.stock.screen.display) if "HELLO" in line]


async def test_a_toast_that_goes_after_a_scroll_is_painted_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await ghost_lines(PaintedPage(), monkeypatch) == []


async def test_textual_itself_leaves_it_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails the library is mended: tuitune/workbench/terminal/repaint.py can go."""
    assert await ghost_lines(Page(), monkeypatch) == [21]


async def test_the_workbench_has_that_screen(tmp_path: Path) -> None:
    app = Workbench(tmp_path)
    async with app.run_test():
        assert isinstance(app.screen, PaintedScreen)
