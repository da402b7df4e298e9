"""Foreign text over lines of a width, safe to show. Pure functions."""

from collections.abc import Iterator

from rich.cells import cell_len, chop_cells

from tuitune.text import printable
from tuitune.workbench.parts.role_lines import Line


def broken_up(text: str, width: int, role: str = "") -> Iterator[Line]:
    """A text over lines of `width` cells, line feeds kept, broken at blanks where there are some, nothing in it that a terminal obeys."""
    for line in printable(text, newlines=True).split("\n"):
        start = 0
        while len(line) - start > width or cell_len(line[start : start + width]) > width:
            piece = chop_cells(line[start : start + width], max(2, width))[0]
            blank = piece.rfind(" ")
            end = start + (blank + 1 if blank > width // 2 and len(line) > start + len(piece) else len(piece))
            yield ((line[start:end], role),)
            start = end
        if start < len(line) or not line:
            yield ((line[start:], role),)
