"""Two texts of a recipe beside each other as one list of lines: what the last run was started with, what is on disk, what is on screen."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tuitune.text import printable
from tuitune.workbench.widgets.line_list import LineList

AROUND = 3  # unchanged lines shown above and below a change


@dataclass(frozen=True)
class DiffLine:
    """sign: "-" only in the old text, "+" only in the new one, " " in both, "⋯" lines left out. Numbers from 1, 0 = not there."""

    sign: str
    old: int
    new: int
    text: str = ""


def diff_lines(old: str, new: str) -> list[DiffLine]:
    """The changed lines with some unchanged ones around; empty when nothing differs."""
    before, after = old.split("\n"), new.split("\n")
    found: list[DiffLine] = []
    for group in SequenceMatcher(None, before, after).get_grouped_opcodes(AROUND):
        if found or group[0][1]:
            found.append(DiffLine("⋯", 0, 0))
        for tag, start, stop, at, to in group:
            if tag == "equal":
                found += [DiffLine(" ", row + 1, at + row - start + 1, before[row]) for row in range(start, stop)]
            else:
                found += [DiffLine("-", row + 1, 0, before[row]) for row in range(start, stop)]
                found += [DiffLine("+", 0, row + 1, after[row]) for row in range(at, to)]
        if group[-1][2] < len(before):
            found.append(DiffLine("⋯", 0, 0))
    return [line for at, line in enumerate(found) if line.sign != "⋯" or at == 0 or found[at - 1].sign != "⋯"]


class Comparison(ModalScreen[None]):
    """Read-only. n and p go from change to change, Escape closes. The names say what the two texts are."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", show=False),
        Binding("n", "step(1)", show=False),
        Binding("p", "step(-1)", show=False),
    ]
    DEFAULT_CSS = """
    Comparison { align: center middle; }
    Comparison > #comparison { width: 110; max-width: 96%; height: 90%; background: $surface; border: round $primary; padding: 0 1; }
    Comparison Static { height: auto; max-height: 2; }
    Comparison LineList { height: 1fr; margin-top: 1; background: $surface; scrollbar-background: $surface; }
    """

    def __init__(self, old_name: str, old: str, new_name: str, new: str) -> None:
        super().__init__()
        self.lines = diff_lines(old, new)
        self._names = (printable(old_name), printable(new_name))
        self._list = LineList()

    def compose(self) -> ComposeResult:
        old, new = self._names
        with Vertical(id="comparison"):
            yield Static(
                Content.assemble(
                    ("- ", "bold $error"),
                    (old, "bold"),
                    ("   + ", "bold $success"),
                    (new, "bold"),
                    ("   n p changes, Esc closes", "$text-muted"),
                )
            )
            yield self._list

    def on_mount(self) -> None:
        digits = len(str(max((max(line.old, line.new) for line in self.lines), default=0)))
        self._list.show([draw(line, digits) for line in self.lines] or [Content.styled(" Nothing differs.", "$text-muted")])
        self._list.focus()
        self.action_step(1)

    def action_step(self, by: int) -> None:
        """To the first line of the next or previous change."""
        first = [at for at, line in enumerate(self.lines) if line.sign in "-+" and (at == 0 or self.lines[at - 1].sign not in "-+")]
        here = self._list.cursor
        ahead = [at for at in first if (at > here if by > 0 else at < here)]
        if ahead:
            self._list.cursor = ahead[0 if by > 0 else -1]


def draw(line: DiffLine, digits: int) -> Content:
    """ "  12    -   max_length: 1024" with the sign and the text in the colour of the sign."""
    if line.sign == "⋯":
        return Content.styled(" " * (2 * digits + 3) + "⋯", "$text-muted")
    style = {"+": "$success", "-": "$error"}.get(line.sign, "")
    numbers = f"{line.old or '':>{digits}} {line.new or '':>{digits}} "
    return Content.assemble(
        (numbers, "$text-disabled"), (f" {line.sign} ", f"bold {style}" if style else ""), (printable(line.text), style)
    )
