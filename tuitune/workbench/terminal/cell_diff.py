"""A cell diff under the whole app: of every update only the cells that really change are written.

Textual repaints whole widgets and never compares with what the terminal shows; a key typed into a TextArea writes 24 KB. Here the
compositor's updates are unrolled into cells, compared with a front buffer of what was written before, and only the changed runs go out
(0.3 KB a key). Leans on compositor internals, so it is on only for Textual versions whose equality suite has passed
(tests/e2e/test_cell_diff.py, tests/unit/workbench/test_cell_diff.py) and off by itself on any other.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import textual
from rich.cells import get_character_cell_size
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

if TYPE_CHECKING:
    from textual.app import App

    _Base = App[Any]
else:
    _Base = object

PROVEN = ("8.2.8",)  # raise on purpose, after the equality suite has passed
GAP = 6  # cells: rewriting so few unchanged ones costs less than moving the cursor over them

Look = tuple[str, str]  # the codes before and after a text: equal codes look equal, whatever else a style carries
Cell = tuple[object, object]  # (character, look); for the cells of an odd strip (strip, offset)
_PLAIN: Look = ("", "")


class CellDiff:
    """The front buffer: what the terminal shows, as far as it is known."""

    def __init__(self) -> None:
        self._rows: list[list[Cell | None]] = []
        self._size = (0, 0)
        self._looks: dict[Style, Look] = {}
        self._colors: str | None = None

    def reset(self) -> None:
        """Forget what the terminal shows: the next updates are written whole."""
        self._rows = []
        self._size = (0, 0)

    def render(self, update: LayoutUpdate | ChopsUpdate, console: Console) -> str:
        """The codes that bring the terminal from what it shows to what `update` says, and no more."""
        width, height = console.size
        if self._size != (width, height) or self._colors != console.color_system:
            self._size, self._colors = (width, height), console.color_system
            self._rows = [[None] * width for _ in range(height)]
            self._looks.clear()
        out: list[str] = []
        for x, y, strip in placed_strips(update):
            if 0 <= y < height and 0 <= x < width:
                self._strip(out, x, y, strip if x + strip.cell_length <= width else strip.crop(0, width - x), console)
        return "".join(out)

    def _strip(self, out: list[str], x: int, y: int, strip: Strip, console: Console) -> None:
        row = self._rows[y]
        cells = self._cells(strip, console)
        if cells is None:
            # double width or combining characters: compared and written as a whole, so that no half of one is ever left standing
            key = (tuple(strip), console.color_system)
            cells = [(key, offset) for offset in range(strip.cell_length)]
            if row[x : x + len(cells)] != cells:
                out.append(f"\x1b[{y + 1};{x + 1}H{strip.render(console)}")
                self._break_wide(out, row, x, y, len(cells))
                row[x : x + len(cells)] = cells
            return
        old = row[x : x + len(cells)]
        if old == cells:
            return
        for start, end in changed_runs(old, cells):
            out.append(f"\x1b[{y + 1};{x + start + 1}H{_written(cells[start:end])}")
        self._break_wide(out, row, x, y, len(cells))
        row[x : x + len(cells)] = cells

    def _break_wide(self, out: list[str], row: list[Cell | None], x: int, y: int, length: int) -> None:
        """Writing over one half of a wide character blanks the other half in the terminal: neighbours of odd strips become unknown."""
        for edge in (x - 1, x + length):
            if 0 <= edge < len(row) and (cell := row[edge]) is not None and isinstance(cell[0], tuple):
                strip_key = cell[0]
                for index, other in enumerate(row):
                    if other is not None and other[0] is strip_key:
                        row[index] = None

    def _cells(self, strip: Strip, console: Console) -> list[Cell] | None:
        cells: list[Cell] = []
        for text, style, control in strip:
            if control:
                return None
            if not _is_simple(text):
                return None
            look = self._look(style, console)
            cells.extend([(character, look) for character in text])
        return cells

    def _look(self, style: Style | None, console: Console) -> Look:
        if style is None:
            return _PLAIN
        look = self._looks.get(style)
        if look is None:
            if len(self._looks) > 4096:
                self._looks.clear()
            before, _, after = Strip([Segment("x", style)]).render(console).partition("x")
            look = self._looks[style] = (before, after)
        return look


def placed_strips(update: LayoutUpdate | ChopsUpdate) -> Iterator[tuple[int, int, Strip]]:
    """(x, y, strip) of everything an update paints, as its own render_segments would place it."""
    if isinstance(update, LayoutUpdate):
        for y, line in enumerate(update.strips, update.region.y):
            x = update.region.x
            for strip in line:
                yield x, y, strip
                x += strip.cell_length
        return
    for y, x1, x2 in update.spans:
        for end, (x, chop) in zip(update.chop_ends[y], update.chops[y].items()):
            if chop is None or x > x2 or end <= x1:
                continue
            whole = x2 > x >= x1 and end <= x2
            yield x, y, chop if whole else chop.crop(0, min(end, x2) - x)


def changed_runs(old: list[Cell | None], new: list[Cell]) -> Iterator[tuple[int, int]]:
    """[start, end) of the runs to write; unchanged cells between two changes are bridged where that is shorter than a cursor move."""
    start = end = -1
    for index, (before, after) in enumerate(zip(old, new)):
        if before == after:
            continue
        if start >= 0 and index - end <= GAP and all(cell[1] == new[end - 1][1] for cell in new[end:index]):
            end = index + 1
            continue
        if start >= 0:
            yield start, end
        start, end = index, index + 1
    if start >= 0:
        yield start, end


def _written(cells: list[Cell]) -> str:
    """The cells as text with codes; neighbours of one look share them."""
    parts: list[str] = []
    for look, group in groupby(cells, key=itemgetter(1)):
        assert isinstance(look, tuple)
        parts.append(f"{look[0]}{''.join(str(character) for character, _ in group)}{look[1]}")
    return "".join(parts)


@lru_cache(maxsize=4096)
def _is_simple(text: str) -> bool:
    """Whether every character takes exactly one cell."""
    if text.isascii():
        return text.isprintable()
    return all(get_character_cell_size(character) == 1 for character in text)


class _DiffUpdate(CompositorUpdate):
    """Stands in for the compositor's update; rendered at the moment it is written, so the buffer never runs ahead of the terminal."""

    def __init__(self, diff: CellDiff, update: LayoutUpdate | ChopsUpdate) -> None:
        self.diff = diff
        self.update = update

    def render_segments(self, console: Console) -> str:
        try:
            return self.diff.render(self.update, console)
        except Exception:
            # an update unlike any that was proven: show it as Textual would, and start over
            self.diff.reset()
            return self.update.render_segments(console)


class CellDiffMixin(_Base):
    """Put before App in the bases. `TUITUNE_CELL_DIFF=0` in the environment turns it off."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        wanted = textual.__version__ in PROVEN and os.environ.get("TUITUNE_CELL_DIFF", "1") != "0"
        self.cell_diff: CellDiff | None = CellDiff() if wanted else None

    def on_mount(self) -> None:
        """Ctrl+Z and back: the shell has drawn over everything."""
        self.app_resume_signal.subscribe(self, lambda _: self.redraw_terminal())

    def _display(self, screen: Any, renderable: Any) -> None:
        if self.cell_diff is not None:
            if isinstance(renderable, LayoutUpdate | ChopsUpdate):
                renderable = _DiffUpdate(self.cell_diff, renderable)
            elif renderable is not None:
                self.cell_diff.reset()
        super()._display(screen, renderable)

    @contextmanager
    def suspend(self) -> Iterator[None]:
        """Textual's own; the terminal shows something else afterwards."""
        with super().suspend():
            yield
        self.redraw_terminal()

    def redraw_terminal(self) -> None:
        """Write everything anew: after a suspend, or when the user says that the screen is damaged (Ctrl+L)."""
        if self.cell_diff is not None:
            self.cell_diff.reset()
        self.refresh(layout=True)
