"""The cell diff under living apps: what is really written, replayed beside what stock Textual would have written for the same updates.

Fast and exact where tests/e2e/test_cell_diff.py is slow and real: both pictures come from one process, so nothing but the diff differs.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyte
import pytest
from textual import events
from textual._compositor import CompositorUpdate
from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.geometry import Size
from textual.pilot import Pilot
from textual.screen import ModalScreen
from textual.widgets import DataTable, Input, Label, OptionList, Static, TextArea

from tuitune.workbench.app import Workbench
from tuitune.workbench.terminal.cell_diff import CellDiff, CellDiffMixin

WIDE = ["漢字 and kana かな", "e\u0301clair, n\u0303", "🦜 parrot", "👩\u200d🚀 pilot", "plain again", "half 漢", "flag 🇩🇪", "⚠️ warned"]
# pyte knows no graphemes and stops at a joiner: stand-ins as wide as Textual takes the real ones to be (terminals that see it otherwise:
# tests/unit/workbench/test_cell_diff.py)
STAND_INS = {"👩\u200d🚀": "🚀", "🇩🇪": "🚩", "⚠️": "🔶"}
Cells = list[list[tuple[object, ...]]]


class Picture:
    """A terminal's screen."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.screen = pyte.Screen(*size)
        self.screen.reset_mode(7, private=True)  # Textual turns line wrap off
        self.stream = pyte.Stream(self.screen)
        self.bytes = 0

    def feed(self, codes: str) -> None:
        self.bytes += len(codes.encode())
        for cluster, stand_in in STAND_INS.items():
            codes = codes.replace(cluster, stand_in)
        self.stream.feed(codes)

    def cells(self) -> Cells:
        rows = [self.screen.buffer[y] for y in range(self.screen.lines)]
        columns = range(self.screen.columns)
        return [
            [(c.data, c.fg, c.bg, c.bold, c.italics, c.underscore, c.reverse, c.strikethrough) for c in (row[x] for x in columns)]
            for row in rows
        ]

    def resize(self, size: tuple[int, int]) -> None:
        """As a terminal whose content is damaged by it."""
        self.screen.resize(lines=size[1], columns=size[0])
        self.damage()

    def damage(self) -> None:
        self.stream.feed("\x1b[0m" + "".join(f"\x1b[{y + 1};1H{'#' * self.screen.columns}" for y in range(self.screen.lines)))


class Compared(App[Any]):
    """Before an app in its bases: `lean` shows what is written, `stock` what Textual would have written for the same updates."""

    lean: Picture
    stock: Picture

    @property
    def is_headless(self) -> bool:
        return False  # so that updates are written (by a driver that only hands them on)

    def open_terminals(self, size: tuple[int, int]) -> None:
        self.lean, self.stock = Picture(size), Picture(size)

    def _build_driver(self, *args: Any, **options: Any) -> Any:
        driver = super()._build_driver(*args, **options)
        driver.write = self.lean.feed  # type: ignore[method-assign]
        return driver

    def _display(self, screen: Any, renderable: Any) -> None:
        if isinstance(renderable, CompositorUpdate) and self._running and not self._batch_count:
            x, y = self.screen.outer_size.clamp_offset(self.cursor_position)
            self.stock.feed(f"{renderable.render_segments(self.console)}\x1b[{y + 1};{x + 1}H")
        super()._display(screen, renderable)


class Question(ModalScreen[None]):
    """A box over a dimmed screen."""

    DEFAULT_CSS = "Question { align: center middle; } Question > Label { width: 30; height: 5; border: round $primary; }"
    BINDINGS = [("escape", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        yield Label("Really? 漢字 🦜 over what stands behind it")


class Stage(Compared, CellDiffMixin, App[None]):
    """One of each kind of widget that Textual brings, and text that is hard to place."""

    CSS = "OptionList, TextArea, DataTable { width: 1fr; height: 12; } #words { height: auto; }"
    BINDINGS = [("f2", "ask", "Ask"), ("f3", "look", "Theme"), ("f4", "words", "Words")]
    turn = 0

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield OptionList(*(f"{number} {WIDE[number % len(WIDE)]}" for number in range(40)))
            yield TextArea("name: demo\nlearning_rate: 2e-4\n" * 12, show_line_numbers=True)
        yield DataTable()
        yield Static(WIDE[0], id="words")
        yield Input("search")

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        table.add_columns("step", "loss", "text")
        table.add_rows([(number, f"{1 / (number + 1):.4f}", WIDE[number % len(WIDE)]) for number in range(60)])

    def action_ask(self) -> None:
        self.push_screen(Question())

    def action_look(self) -> None:
        self.theme = "textual-light" if self.theme != "textual-light" else "textual-dark"

    def action_words(self) -> None:
        self.turn += 1
        self.query_one("#words", Static).update(WIDE[self.turn % len(WIDE)])


class ComparedWorkbench(Compared, Workbench):
    """The real thing."""

    CSS_PATH = inspect.getfile(Workbench).replace("app.py", "workbench.tcss")


@asynccontextmanager
async def session(app: Any, size: tuple[int, int]) -> AsyncIterator[Pilot[Any]]:
    app.open_terminals(size)
    async with app.run_test(size=size) as pilot:
        app.animation_level = "none"
        await pilot.pause()
        yield pilot
        assert app.cell_diff is not None
        assert app.cell_diff.faults == 0


def differing(app: Any) -> list[tuple[int, int, object, object]]:
    """The cells (column, row, written, stock) that are not alike."""
    pairs = enumerate(zip(app.lean.cells(), app.stock.cells()))
    return [(x, y, lean, stock) for y, rows in pairs for x, (lean, stock) in enumerate(zip(*rows)) if lean != stock]


async def play(app: Any, pilot: Pilot[Any], steps: Iterable[str]) -> None:
    for number, key in enumerate(steps):
        await pilot.press(*key.split())
        await pilot.pause()
        assert differing(app) == [], f"after step {number}, {key}"


STEPS = (
    *["down"] * 6, "pagedown", "end", "up", "home",
    "tab", "x", "y", "enter", "漢", "left", "backspace", "down", "shift+down", "shift+end", "delete", "pagedown", "ctrl+z",
    "tab", "down", "pagedown", "end", "home",
    "tab", "a", "🦜", "backspace",
    *["f4"] * len(WIDE),
    "f2", "escape", "f3", "f2", "f3", "escape", "ctrl+p", "t h e", "down", "escape",
    "shift+tab", "pagedown",
)  # fmt: skip


async def test_every_kind_of_widget_looks_as_stock_textual_draws_it() -> None:
    app = Stage()
    async with session(app, (80, 24)) as pilot:
        await play(app, pilot, STEPS)
        assert app.lean.bytes < app.stock.bytes / 2


async def test_a_new_size_and_a_damaged_screen_are_written_anew() -> None:
    """There and back to the same size as well: a terminal has cut what it showed, and the diff must not trust it."""
    app = Stage()
    async with session(app, (100, 30)) as pilot:
        for size in ((70, 20), (100, 30), (100, 31), (140, 50)):
            for picture in (app.lean, app.stock):
                picture.resize(size)
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert differing(app) == [], size
            assert not any(cell[0] == "#" for row in app.lean.cells() for cell in row)
        whole = app.lean.cells()
        app.lean.damage()
        app.redraw_terminal()
        await pilot.pause()
        assert app.lean.cells() == whole


async def test_a_size_there_and_back_within_one_turn_is_written_anew() -> None:
    """Textual waits a moment for the last of several sizes; when that is the first one again, only the layout is as before."""
    app = Stage()
    async with session(app, (100, 30)) as pilot:
        for size in ((70, 20), (100, 30)):
            for picture in (app.lean, app.stock):
                picture.resize(size)
            app.post_message(events.Resize(Size(*size), Size(*size)))
        await pilot.pause()
        while app.screen.outer_size != app.size:
            await pilot.pause(0.01)
        app.screen.refresh()
        await pilot.pause()
        assert differing(app) == []
        assert not any(cell[0] == "#" for row in app.lean.cells() for cell in row)


async def test_what_was_laid_out_for_another_size_is_not_trusted() -> None:
    """Between a new size and the layout for it, an update for the old one may come: the terminal cuts it off at its new edge."""
    app = Stage()
    async with session(app, (100, 30)) as pilot:
        for picture in (app.lean, app.stock):
            picture.resize((70, 20))
        app.post_message(events.Resize(Size(70, 20), Size(70, 20)))
        while app.size != Size(70, 20):
            await asyncio.sleep(0)
        assert app.screen.outer_size == Size(100, 30)
        app._display(app.screen, app.screen._compositor.render_update(full=True))
        while app.screen.outer_size != Size(70, 20):
            await pilot.pause(0.01)
        await pilot.pause()
        assert differing(app) == []


async def test_the_workbench_itself_looks_as_stock_textual_draws_it(tmp_path: Path) -> None:
    """Explorer, editor with problems, picker, help, panel, full size, themes, another size: all by keys."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.jsonl").write_text('{"question": "1+1?", "answer": "2 漢字 🦜"}\n' * 40)
    (tmp_path / "demo.yaml").write_text("name: demo # 漢字 and é\ntask: sft\nmodel:\n  name_or_path: x\ntraining:\n  max_seq_length: 5\n")
    app = ComparedWorkbench(tmp_path)
    async with session(app, (120, 40)) as pilot:
        while app.seen is None:
            await pilot.pause(0.02)
        for path in (tmp_path / "demo.yaml", tmp_path / "data/train.jsonl", tmp_path / "demo.yaml"):
            await app.open_path(path)
            await pilot.pause()
        app.focus_editor()
        await play(app, pilot, ("down", "x", "漢", "enter", "backspace", "ctrl+z", "f8"))
        await play(app, pilot, ("ctrl+t", "ctrl+t", "ctrl+b", "ctrl+b", "f12", "f12"))
        await play(app, pilot, ("ctrl+p", "t r", "down", "escape", "f1", "down", "pagedown", "escape", "f6", "down", "down", "f6"))
        for theme in ("tuitune-light", "ansi-dark", "tuitune-dark"):
            app.theme = theme
            await pilot.pause()
            assert differing(app) == [], theme
        for picture in (app.lean, app.stock):
            picture.resize((80, 24))
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        await play(app, pilot, ("f6", "down", "ctrl+p", "escape", "ctrl+t"))
        assert app.lean.bytes < app.stock.bytes / 2


async def test_on_a_textual_version_that_was_not_proven_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off, the app writes exactly what Textual writes."""
    monkeypatch.setattr("textual.__version__", "99.0.0")
    app = Stage()
    app.open_terminals((80, 24))
    async with app.run_test(size=(80, 24)) as pilot:
        assert app.cell_diff is None
        await pilot.press("down", "f2", "escape")
        assert differing(app) == []
        assert app.lean.bytes >= app.stock.bytes


def test_it_is_turned_off_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUITUNE_CELL_DIFF", "0")
    assert Stage().cell_diff is None
    monkeypatch.delenv("TUITUNE_CELL_DIFF")
    assert isinstance(Stage().cell_diff, CellDiff)
