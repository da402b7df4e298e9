"""Foreign text in Markdown: shown, never obeyed. Model cards are rendered on a site where a heading, a link or a tag would count."""

import re
from collections.abc import Sequence

from tuitune.text import printable

_TICKS = re.compile("`+")


def code(text: object, limit: int = 200) -> str:
    """`text` as a code span in one line, with a fence that nothing in it can close; a table's cell can hold it."""
    plain = printable(str(text), limit=limit).replace("|", "\N{FULLWIDTH VERTICAL LINE}")
    fence = "`" * (_longest(plain) + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") or not plain.strip() else ""
    return f"{fence}{pad}{plain or ' '}{pad}{fence}"


def block(text: str, language: str = "") -> str:
    """`text` as a fenced block of lines that nothing in it can close."""
    plain = printable(text.rstrip("\n"), newlines=True)
    fence = "`" * max(3, _longest(plain) + 1)
    return f"{fence}{language}\n{plain}\n{fence}"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _longest(text: str) -> int:
    return max((len(run) for run in _TICKS.findall(text)), default=0)
