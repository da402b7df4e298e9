"""The cell diff: whatever Textual paints, the terminal ends up with the same cells, for a fraction of the bytes."""

import random
from itertools import pairwise

import pyte
import pytest
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from tuitune.workbench.terminal import cell_diff
from tuitune.workbench.terminal.cell_diff import CellDiff

WIDTH, HEIGHT = 40, 8
LOOKS = ("", "bold red", "on blue", "italic green on black", "underline", "reverse #ffaa00", "dim white")


def fresh_styles() -> list[Style]:
    """The looks as styles never rendered before: rich keeps the codes of a style for the first colour depth it was rendered in.

    Textual keeps the codes for every style that is equal, rich keeps the halves of split wide characters with the style objects of whoever
    split them first. A program has one depth for its whole life, the tests in one process have several.
    """
    Strip.render_ansi.cache_clear()
    Segment._split_cells.cache_clear()
    return [
        Style(
            color=style.color, bgcolor=style.bgcolor, bold=style.bold, italic=style.italic, underline=style.underline, reverse=style.reverse
        )
        for style in map(Style.parse, LOOKS)
    ]


STYLES = fresh_styles()
SIMPLE = ["abc", "  ", "training:", "─│┌", "⠁⣿", "ümläut", "x" * 12]
WIDE = ["漢字", "e\u0301clair", "a漢b"]
ODD = ["漢字", "e\u0301clair", "🦜", "a漢b", "👩\u200d🚀"]


class Screen:
    """A terminal that is fed by update after update."""

    def __init__(self) -> None:
        self.screen = pyte.Screen(WIDTH, HEIGHT)
        self.stream = pyte.Stream(self.screen)
        self.bytes = 0
        self.log = ""

    def feed(self, codes: str) -> None:
        self.bytes += len(codes.encode())
        self.log += codes
        self.stream.feed(codes)

    def cells(self) -> list[list[tuple[object, ...]]]:
        rows = [self.screen.buffer[y] for y in range(HEIGHT)]
        return [[(c.data, c.fg, c.bg, c.bold, c.italics, c.underscore, c.reverse) for c in (row[x] for x in range(WIDTH))] for row in rows]


def console(colors: str = "truecolor") -> Console:
    return Console(width=WIDTH, height=HEIGHT, color_system=colors, force_terminal=True, legacy_windows=False)  # type: ignore[arg-type]


def strip(rng: random.Random, width: int, words: list[str]) -> Strip:
    segments = [Segment(rng.choice(words), rng.choice(STYLES)) for _ in range(width)]
    return Strip(segments).crop(0, width).extend_cell_length(width, STYLES[0])


def layout(rng: random.Random, words: list[str]) -> LayoutUpdate:
    x, y = rng.randrange(WIDTH - 1), rng.randrange(HEIGHT)
    region = Region(x, y, rng.randrange(1, WIDTH - x + 1), rng.randrange(1, HEIGHT - y + 1))
    return LayoutUpdate([[strip(rng, region.width, words)] for _ in range(region.height)], region)


def chops(rng: random.Random, words: list[str]) -> ChopsUpdate:
    cuts = [0, *sorted(rng.sample(range(1, WIDTH), 3)), WIDTH]
    lines = [{a: strip(rng, b - a, words) for a, b in pairwise(cuts)} for _ in range(HEIGHT)]
    spans = [(y, *sorted(rng.sample(range(WIDTH + 1), 2))) for y in range(HEIGHT) if rng.random() < 0.6] or [(0, 0, WIDTH)]
    return ChopsUpdate(lines, spans, [cuts[1:]] * HEIGHT)  # type: ignore[arg-type]


def text_update(text: str, x: int = 0, y: int = 0, style: Style | None = None) -> LayoutUpdate:
    line = Strip([Segment(text, style)])
    return LayoutUpdate([[line]], Region(x, y, line.cell_length, 1))


@pytest.mark.parametrize("colors", ["truecolor", "256", "standard"])
@pytest.mark.parametrize("words", [SIMPLE, SIMPLE + WIDE], ids=["plain", "wide and combining"])
def test_hundreds_of_random_updates_leave_the_same_cells(colors: str, words: list[str]) -> None:
    STYLES[:] = fresh_styles()
    rng = random.Random(7)
    stock, lean, diff, target = Screen(), Screen(), CellDiff(), console(colors)
    for number in range(300):
        update = layout(rng, words) if rng.random() < 0.5 else chops(rng, words)
        stock.feed(update.render_segments(target))
        lean.feed(diff.render(update, target))
        assert lean.cells() == stock.cells(), f"update {number}"
    assert lean.bytes < stock.bytes
    assert ("38;2;" in lean.log, "38;5;" in lean.log) == (colors == "truecolor", colors == "256")


def test_an_unchanged_screen_writes_nothing_and_a_changed_letter_a_few_bytes() -> None:
    diff, target = CellDiff(), console()
    first = LayoutUpdate([[Strip([Segment("learning_rate: 1e-4".ljust(WIDTH), STYLES[1])])]], Region(0, 0, WIDTH, 1))
    again = LayoutUpdate([[Strip([Segment("learning_rate: 2e-4".ljust(WIDTH), STYLES[1])])]], Region(0, 0, WIDTH, 1))
    assert len(diff.render(first, target)) > WIDTH
    assert diff.render(first, target) == ""
    changed = diff.render(again, target)
    assert "2" in changed
    assert len(changed) < 40


def test_after_a_reset_everything_is_written_again() -> None:
    diff, target = CellDiff(), console()
    whole = diff.render(text_update("x" * WIDTH), target)
    assert diff.render(text_update("x" * WIDTH), target) == ""
    diff.reset()
    assert diff.render(text_update("x" * WIDTH), target) == whole


def test_overwriting_half_of_a_wide_character_leaves_no_half_behind() -> None:
    diff, target, stock, lean = CellDiff(), console(), Screen(), Screen()
    for text, x in (("漢字漢字", 0), ("ab", 1), ("漢字漢字", 0)):
        update = LayoutUpdate([[Strip([Segment(text)])]], Region(x, 0, len(text), 1))
        stock.feed(update.render_segments(target))
        lean.feed(diff.render(update, target))
    assert lean.cells()[0] == stock.cells()[0]


def test_a_link_whose_address_holds_any_letter_is_written_whole() -> None:
    diff, target = CellDiff(), console()
    link = Style(link="https://example.org/xyz")
    assert diff.render(text_update("see docs", style=link), target) == text_update("see docs", style=link).render_segments(target)


@pytest.mark.parametrize("odd", ODD)
def test_beside_odd_characters_everything_to_the_right_is_written_again(odd: str) -> None:
    """Terminals disagree on how wide an emoji is: what stands to its right may have been pushed over and is written again."""
    diff, target = CellDiff(), console()
    right = "|right side"

    def row(left: str) -> LayoutUpdate:
        return LayoutUpdate([[Strip([Segment(left)]).adjust_cell_length(20), Strip([Segment(right)])]], Region(0, 0, 20 + len(right), 1))

    diff.render(row("plain"), target)
    assert right in diff.render(row(odd), target)
    assert diff.render(row(odd), target) == ""
    assert right not in diff.render(row("plain"), target)


def test_an_odd_strip_moved_over_its_own_traces_is_written() -> None:
    diff, target, stock, lean = CellDiff(), console(), Screen(), Screen()
    for x in (0, 4, 2):
        stock.feed(text_update("漢字", x).render_segments(target))
        lean.feed(diff.render(text_update("漢字", x), target))
    assert lean.cells()[0] == stock.cells()[0]


def test_the_size_in_the_environment_does_not_cut_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some shells export COLUMNS; the console then believes it, the update knows better."""
    diff, narrow = CellDiff(), Console(width=10, height=2, color_system="truecolor", force_terminal=True, legacy_windows=False)
    assert "y" * 30 in diff.render(text_update("y" * 30, 5, 6), narrow)


def test_what_it_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand themes later it holds no more than before, and what it writes is still right."""
    diff, target, stock, lean = CellDiff(), console(), Screen(), Screen()
    limit = 64
    monkeypatch.setattr(cell_diff, "LIMIT", limit)
    for number in range(4 * limit):
        color = "" if number < 2 * limit else f"#{number:06x}"  # first styles that differ in meta alone, as lists have them
        update = text_update("a", number % WIDTH, 0, Style.parse(color) + Style(meta={"item": number}))
        stock.feed(update.render_segments(target))
        lean.feed(diff.render(update, target))
        assert diff.remembered <= limit + 2
    assert lean.cells() == stock.cells()


def test_an_update_unlike_any_known_is_shown_as_textual_would_and_counted() -> None:
    class Strange(ChopsUpdate):
        def __init__(self) -> None:
            self.chops = self.spans = self.chop_ends = None  # type: ignore[assignment]

        def render_segments(self, console: Console) -> str:
            return "as stock"

    diff, target = CellDiff(), console()
    first = text_update("known")
    written = diff.render(first, target)
    assert diff.written(Strange(), target) == "as stock"
    assert diff.faults == 1
    assert diff.written(first, target) == written
