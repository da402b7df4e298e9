"""A cell diff under the whole app: of every update only the cells that really change are written.

Textual repaints whole widgets and never compares with what the terminal shows; a key typed into a TextArea writes 24 KB. Here the
compositor's updates are laid out as cells, compared with a front buffer of what was written before, and only the changed runs go out
(0.3 KB a key). Leans on compositor internals, so it is on only for Textual versions whose equality suite has passed
(tests/e2e/test_cell_diff.py, tests/pilot/widgets/test_cell_diff_session.py, tests/unit/workbench/test_cell_diff.py) and off by itself on
any other.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import textual
from rich.cells import get_character_cell_size
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.geometry import Size
from textual.strip import Strip

if TYPE_CHECKING:
    from textual.app import App

    _Base = App[Any]
else:
    _Base = object

PROVEN = ("8.2.8",)  # raise on purpose, after the equality suite has passed
GAP = 6  # cells: rewriting so few unchanged ones costs less than moving the cursor over them
LIMIT = 8192  # looks and odd strips that have a number; past it the buffer starts over, so that memory stays bounded
UNKNOWN = 0  # the number of a cell that may show anything

# Blocks whose every character takes one cell, checked at the speed of a regular expression; others are looked up one by one.
_NARROW = re.compile("[ -~\u00a1-\u00ac\u00ae-\u02ff\u2500-\u259f\u2800-\u28ff]*")


class _Row:
    """One line of the terminal: a character and the number of its look for each cell."""

    __slots__ = ("looks", "text")

    def __init__(self) -> None:
        self.text = ""
        self.looks: list[int] = []

    def reach(self, width: int) -> None:
        """Have at least `width` cells."""
        missing = width - len(self.looks)  # below zero nothing is added
        self.text += " " * missing
        self.looks += [UNKNOWN] * missing


class CellDiff:
    """The front buffer: what the terminal shows, as far as it is known."""

    def __init__(self) -> None:
        self.faults = 0  # updates that were unlike any proven one and were shown as Textual would
        self.fault = ""  # the first one's reason
        self._rows: dict[int, _Row] = {}
        self._codes: list[tuple[str, str]] = []  # by the number of a look: what is written before and after its text
        self._numbers: dict[object, int] = {}  # of looks by their codes, of odd strips by their segments
        self._styles: dict[Style | None, int] = {}
        self.reset()

    def reset(self) -> None:
        """Forget what the terminal shows: the next updates are written whole."""
        self._rows.clear()
        self._styles.clear()
        self._numbers.clear()
        self._codes[:] = [("", "")]  # nothing is ever written with the look UNKNOWN

    @property
    def remembered(self) -> int:
        """How many things it holds beside the cells of the screen: the larger one of styles and numbers."""
        return max(len(self._codes), len(self._styles))

    def written(self, update: LayoutUpdate | ChopsUpdate, console: Console) -> str:
        """As `render`; an update unlike any that was proven is rendered by Textual, and the buffer starts over."""
        try:
            return self.render(update, console)
        except Exception as error:
            self.faults += 1
            self.fault = self.fault or f"{type(error).__name__}: {error}"
            self.reset()
            return update.render_segments(console)

    def render(self, update: LayoutUpdate | ChopsUpdate, console: Console) -> str:
        """The codes that bring the terminal from what it shows to what `update` says, and no more."""
        out: list[str] = []
        for x, y, strip in placed_strips(update):
            self._strip(out, x, y, strip, console)
            if len(self._codes) > LIMIT:
                self.reset()
        return "".join(out)

    def _strip(self, out: list[str], x: int, y: int, strip: Strip, console: Console) -> None:
        row = self._rows.get(y)
        if row is None:
            row = self._rows[y] = _Row()
        end = x + strip.cell_length
        row.reach(end)
        text = "".join([segment.text for segment in strip])
        odd = not _is_narrow(text) or any(segment.control for segment in strip)
        if odd:
            # Double width or combining characters: compared and written whole, so that no half of one is ever left standing. Each
            # cell holds its place within the strip instead of a character: the strip's own traces elsewhere do not pass for it.
            looks = [self._number((tuple(strip), "odd"), ("", ""))] * strip.cell_length
            text = "".join(map(chr, range(1, strip.cell_length + 1)))
        else:
            looks = []
            for segment in strip:
                looks += [self._look(segment.style, console)] * len(segment.text)
        if row.looks[x:end] == looks and row.text[x:end] == text:
            return
        if odd:
            out.append(f"\x1b[{y + 1};{x + 1}H{strip.render(console)}")
            row.looks[end:] = [UNKNOWN] * (len(row.looks) - end)  # terminals disagree on widths: it may have reached over its end
        else:
            for start, stop in changed_runs(row.text[x:end], row.looks[x:end], text, looks):
                out.append(f"\x1b[{y + 1};{x + start + 1}H")
                self._write_run(out, text, looks, start, stop)
        row.text = row.text[:x] + text + row.text[end:]
        row.looks[x:end] = looks

    def _write_run(self, out: list[str], text: str, looks: list[int], start: int, stop: int) -> None:
        """Cells as text with codes; neighbours of one look share them."""
        at = start
        while at < stop:
            look, first = looks[at], at
            while at < stop and looks[at] == look:
                at += 1
            before, after = self._codes[look]
            out += (before, text[first:at], after)

    def _look(self, style: Style | None, console: Console) -> int:
        """The number of what a style looks like: styles that differ in something invisible (meta) have the same."""
        look = self._styles.get(style)
        if look is None:
            if len(self._styles) > LIMIT:
                self._styles.clear()  # styles that differ only in meta do not add to the codes
            before, _, after = Strip([Segment("\0", style)]).render(console).partition("\0")
            look = self._styles[style] = self._number((before, after), (before, after))
        return look

    def _number(self, key: object, codes: tuple[str, str]) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._codes)
            self._codes.append(codes)
        return number


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


def changed_runs(old_text: str, old_looks: list[int], text: str, looks: list[int]) -> Iterator[tuple[int, int]]:
    """[start, stop) of the runs to write; unchanged cells between two changes are bridged where that is shorter than a cursor move."""
    start = stop = -1
    for at, (was, now, was_look, look) in enumerate(zip(old_text, text, old_looks, looks)):
        if was == now and was_look == look:
            continue
        if start >= 0 and at - stop <= GAP and all(between == looks[stop - 1] for between in looks[stop:at]):
            stop = at + 1
            continue
        if start >= 0:
            yield start, stop
        start, stop = at, at + 1
    if start >= 0:
        yield start, stop


@lru_cache(maxsize=2048)
def _is_narrow(text: str) -> bool:
    """Whether every character takes exactly one cell."""
    return _NARROW.fullmatch(text) is not None or all(
        character.isprintable() and get_character_cell_size(character) == 1 for character in text
    )


class _DiffUpdate(CompositorUpdate):
    """Stands in for the compositor's update; rendered at the moment it is written, so the buffer never runs ahead of the terminal."""

    def __init__(self, diff: CellDiff, update: LayoutUpdate | ChopsUpdate) -> None:
        self.diff = diff
        self.update = update

    def render_segments(self, console: Console) -> str:
        return self.diff.written(self.update, console)


class CellDiffMixin(_Base):
    """Put before App in the bases. `TUITUNE_CELL_DIFF=0` in the environment turns it off."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        wanted = textual.__version__ in PROVEN and os.environ.get("TUITUNE_CELL_DIFF", "1") != "0"
        self.cell_diff: CellDiff | None = CellDiff() if wanted else None
        self._laid_out_for = Size(0, 0)
        self._fault_told = False

    def on_mount(self) -> None:
        """Ctrl+Z and back: the shell has drawn over everything."""
        self.app_resume_signal.subscribe(self, lambda _: self.redraw_terminal())

    def on_resize(self, event: events.Resize) -> None:
        """A terminal cuts or reflows what it shows when its size changes, back and forth too."""
        if self.cell_diff is not None:
            self.cell_diff.reset()

    def _display(self, screen: Any, renderable: Any) -> None:
        if self.cell_diff is not None:
            if screen.outer_size != self._laid_out_for:  # what was painted for another size may have been clipped
                self._laid_out_for = screen.outer_size
                self.cell_diff.reset()
            if isinstance(renderable, LayoutUpdate | ChopsUpdate):
                renderable = _DiffUpdate(self.cell_diff, renderable)
            elif renderable is not None:
                self.cell_diff.reset()
        super()._display(screen, renderable)
        if self.cell_diff is not None and self.cell_diff.fault and not self._fault_told:
            self._fault_told = True
            self.call_later(self.cell_diff_failed, self.cell_diff.fault)

    def cell_diff_failed(self, why: str) -> None:
        """An update was written whole, as it may be again for every key: told once."""

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
