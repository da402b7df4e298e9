"""The two lines at the bottom: facts (recipe, problems, GPU, run) and keys. What does not fit goes by rank, never by overflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import events
from textual.content import Content
from textual.widget import Widget

from tuitune.text import printable
from tuitune.workbench import figures
from tuitune.workbench.commands import registry

if TYPE_CHECKING:
    from tuitune.runs.listing import RunSummary
    from tuitune.workbench.views.view import View


@dataclass(frozen=True)
class Item:
    """One fact. rank: the higher one stays when room is short. text: printable. right: keeps to the right edge. command: on a click."""

    text: str
    rank: int
    style: str = ""
    right: bool = False
    command: str = ""


def fitting(items: list[Item], width: int, gap: int = 2) -> list[Item]:
    """The items that fit, in their order; the lowest ranks are left out first, and the last one left is never cut away."""
    kept = [item for item in items if item.text]
    while len(kept) > 1 and sum(Content(item.text).cell_length + gap for item in kept) > width:
        kept.remove(min(kept, key=lambda item: item.rank))
    return kept


def status_items(
    view: View | None, living: Sequence[RunSummary], gpu: str, problems: tuple[int, int] = (0, 0), checking: str = "", line: str = ""
) -> list[Item]:
    """The facts for the status bar. `gpu`: "GPU 21.3/140 GiB", "CPU" where there is no GPU, "" while it is not known; `problems`: how
    many errors and warnings the recipe at hand has; `checking`: what its preflight does now, "" when none goes on; `line`: that the line
    to the terminal is slow, in words."""
    items = []
    if view is not None:
        items.append(Item(view.title + (" ●" if view.dirty else ""), 5))
        if view.kind == "recipe":
            errors, warnings = problems
            style = "$error" if errors else "$warning" if warnings else ""
            text = f"✗ {errors}  ⚠ {warnings}" if view.checked else "checking …"
            items.append(Item(text, 8, style, command="view.panel"))
        if view.status:
            items.append(Item(view.status, 9 if view.kind in ("run", "data") else 1))
    if checking:
        items.append(Item(f"preflight: {printable(checking)} …", 8, "$primary", command="check.run"))
    items.append(Item(line, 7, "$warning", command="app.line"))
    living = [run for run in living if view is None or run.path != view.path]  # the dashboard's own status is newer
    items.append(Item("no GPU: CPU" if gpu == "CPU" else gpu, 6, command="view.gpu"))
    if living:
        run = living[0]
        more = f" +{len(living) - 1}" if len(living) > 1 else ""
        loss = f" loss {figures.number(run.loss)}" if run.loss is not None else ""
        word = "" if run.state == "running" else f" {run.state}"
        items.append(
            Item(f"▶ {printable(run.name)}{word}{steps(run)}{loss}{more}", 9, "bold $shell-chip-text on $shell-chip", command="run.attach")
        )
    return items


def key_items(kind: str) -> list[Item]:
    """What stands in for the line of key hints where there is no room for it: the view's first key, and the two that lead to all others."""
    own = [command for command in registry.footer_commands(kind) if command.when != registry.ALWAYS][:1]
    hints = [(command.keys[0], command.title, 3) for command in own]
    hints += [(registry.by_id("quick.open").keys[0], "open", 2), (registry.by_id("quick.commands").keys[0], "commands", 7)]
    return [Item(f"{registry.key_label(key)} {word}", rank, right=True) for key, word, rank in hints]


def steps(run: RunSummary) -> str:
    """ " 412/1400", or nothing before the first step."""
    if not run.step and not run.max_steps:
        return ""
    return f" {run.step or 0}/{run.max_steps}" if run.max_steps else f" step {run.step}"


class StatusBar(Widget):
    """Facts about the active recipe, the GPUs and the living run."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[Item] = []
        self._spans: list[tuple[int, int, str]] = []

    def show(self, items: list[Item]) -> None:
        """Draw these facts."""
        if items != self.items:
            self.items = items
            self.refresh()

    def render(self) -> Content:
        width = self.size.width
        kept = fitting(self.items, width)
        left = [item for item in kept if not item.right]
        right = [item for item in kept if item.right]
        self._spans = []
        line, column = self._join(left, 0)
        tail, _ = self._join(right, max(column, width - sum(Content(item.text).cell_length + 2 for item in right)))
        blank = max(0, width - column - tail.cell_length)
        return Content.assemble(line, " " * blank, tail).truncate(width, ellipsis=True)

    def on_click(self, event: events.Click) -> None:
        for start, end, command in self._spans:
            if command and start <= event.x < end:
                self.app.call_later(self.app.run_action, f"command('{command}')")
                return

    def _join(self, items: list[Item], column: int) -> tuple[Content, int]:
        pieces = []
        for item in items:
            piece = Content.styled(f" {item.text} ", item.style) if item.style else Content(f" {item.text} ")
            self._spans.append((column, column + piece.cell_length, item.command))
            column += piece.cell_length
            pieces.append(piece)
        return Content("").join(pieces), column


class KeyHints(Widget):
    """The keys that help right now, from the registry; as many as fit."""

    def __init__(self) -> None:
        super().__init__()
        self.kind = ""
        self._spans: list[tuple[int, int, str]] = []

    def show(self, kind: str) -> None:
        """Draw the hints for this kind of view."""
        if kind != self.kind:
            self.kind = kind
            self.refresh()

    def render(self) -> Content:
        pieces: list[Content] = []
        self._spans, column = [], 0
        for command in registry.footer_commands(self.kind):
            piece = Content.assemble((f" {registry.key_label(command.keys[0])}", "bold $primary"), (f" {command.title} ", "$text-muted"))
            if column + piece.cell_length > self.size.width:
                break
            self._spans.append((column, column + piece.cell_length, command.id))
            column += piece.cell_length
            pieces.append(piece)
        return Content("").join(pieces)

    def on_click(self, event: events.Click) -> None:
        for start, end, command in self._spans:
            if start <= event.x < end:
                self.app.call_later(self.app.run_action, f"command('{command}')")
                return
