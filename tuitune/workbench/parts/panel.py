"""The panel below the editor: problems of the active file, what was told so far, and the runs that are alive."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from tuitune.text import printable
from tuitune.workbench import figures
from tuitune.workbench.signs import state_sign
from tuitune.workbench.widgets.line_list import LineList

if TYPE_CHECKING:
    from tuitune.recipe.problems import Problem
    from tuitune.runs.listing import RunSummary
    from tuitune.workbench.views.view import View

PAGES = ("problems", "output", "queue")
KEPT = 2_000  # lines of output
SEVERITIES = {"error": ("✗", "$error"), "warning": ("⚠", "$warning"), "info": ("i", "$primary")}


class Panel(Vertical):
    """Left and right change the page; Enter goes to the problem or run under the cursor."""

    BINDINGS = [
        Binding("left", "step_page(-1)", show=False),
        Binding("right", "step_page(1)", show=False),
        Binding("escape", "app.focus_editor", show=False),
    ]

    class Chosen(Message):
        """Please open this, at this place (line 0 = wherever it is)."""

        def __init__(self, kind: str, path: Path, line: int = 0, column: int = 1) -> None:
            super().__init__()
            self.kind, self.path, self.line, self.column = kind, path, line, column

    def __init__(self) -> None:
        super().__init__(id="panel")
        self.page = "problems"
        self.view: View | None = None
        self.problems: list[Problem] = []
        self.runs: Sequence[RunSummary] = ()
        self.lines: deque[tuple[str, str]] = deque(maxlen=KEPT)  # (time, text)
        self._visited = -1  # index of the problem that F8 went to last
        self._titles = PanelTitles()
        self._list = LineList()

    def compose(self) -> ComposeResult:
        yield self._titles
        yield self._list

    def on_mount(self) -> None:
        self._draw()

    def focus_list(self) -> None:
        """Give the keyboard to the list."""
        self._list.focus()

    def show_page(self, page: str) -> None:
        """Show "problems", "output" or "queue"."""
        self.page = page
        self._draw()

    def action_step_page(self, by: int) -> None:
        """The next page, round the end."""
        self.show_page(PAGES[(PAGES.index(self.page) + by) % len(PAGES)])

    def show_problems(self, view: View | None, problems: list[Problem]) -> None:
        """The active view's problems."""
        if view is not self.view or problems != self.problems:
            if view is not self.view:
                self._visited = -1
            self.view, self.problems = view, problems
            self._draw("problems")

    def show_queue(self, runs: Sequence[RunSummary]) -> None:
        """The runs that are alive."""
        self.runs = runs
        self._draw("queue")

    def add_output(self, clock: str, text: str) -> None:
        """One line or several for OUTPUT; printable text."""
        self.lines.extend((clock if index == 0 else " " * len(clock), part) for index, part in enumerate(text.splitlines() or [""]))
        self._draw("output")

    def step_problem(self, by: int) -> Problem | None:
        """The problem after (or before) the one visited last, round the end."""
        if not self.problems:
            return None
        if self._visited < 0 or self._visited >= len(self.problems):
            self._visited = 0 if by > 0 else len(self.problems) - 1
        else:
            self._visited = (self._visited + by) % len(self.problems)
        if self.page == "problems":
            self._list.cursor = self._visited
        return self.problems[self._visited]

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        event.stop()
        if self.page == "problems" and self.view is not None and event.index < len(self.problems):
            self._visited = event.index
            problem = self.problems[event.index]
            self.post_message(self.Chosen(self.view.kind, self.view.path, problem.line, problem.column))
        elif self.page == "queue" and event.index < len(self.runs):
            self.post_message(self.Chosen("run", self.runs[event.index].path))

    def _draw(self, page: str | None = None) -> None:
        self._titles.show(self.page, {"problems": len(self.problems), "queue": len(self.runs)})
        if page not in (None, self.page):
            return
        if self.page == "problems":
            name = self.view.title if self.view is not None else ""
            self._show([problem_line(name, problem) for problem in self.problems], "No problems." if name else "No file is open.")
        elif self.page == "output":
            self._show([Content.assemble((f" {clock} ", "$text-muted"), text) for clock, text in self.lines], "Nothing was told yet.")
            self._list.cursor = len(self.lines) - 1
        else:
            self._show([run_line(run) for run in self.runs], "No run is alive. F5 in a recipe starts one.")

    def _show(self, lines: list[Content], otherwise: str) -> None:
        self._list.show(lines or [Content.styled(f"  {otherwise}", "$text-muted")], () if lines else (0,))


def problem_line(name: str, problem: Problem) -> Content:
    """✗ demo.yaml:12:3  message  RCP010  (fix: …)"""
    sign, style = SEVERITIES[problem.severity]
    fix = f"  fix: {printable(problem.fix.title)}" if problem.fix is not None else ""
    return Content.assemble(
        (f"  {sign} ", f"bold {style}"),
        (f"{name}:{problem.line}:{problem.column} ".ljust(len(name) + 9), "$text-muted"),
        printable(problem.message),
        (f"  {problem.code}", "$text-disabled"),
        (fix, "$success"),
    )


def run_line(run: RunSummary) -> Content:
    """▶ gsm8k-…  running  412/1400  loss 0.61"""
    steps = f"{run.step or 0}/{run.max_steps}" if run.max_steps else ""
    loss = f"loss {figures.number(run.loss)}" if run.loss is not None else ""
    return Content.assemble(
        (f"  {state_sign(run.state)[0]} ", "$success"), printable(run.id), (f"  {run.state}  {steps}  {loss}", "$text-muted")
    )


class PanelTitles(Widget):
    """PROBLEMS 2  OUTPUT  QUEUE"""

    def __init__(self) -> None:
        super().__init__()
        self.page, self.counts = "", {}  # type: str, dict[str, int]
        self._spans: list[tuple[int, int, str]] = []

    def show(self, page: str, counts: dict[str, int]) -> None:
        """Draw the titles with `page` marked."""
        if (page, counts) != (self.page, self.counts):
            self.page, self.counts = page, counts
            self.refresh()

    def render(self) -> Content:
        pieces: list[Content] = []
        self._spans, column = [], 0
        for page in PAGES:
            count = f" {self.counts[page]}" if self.counts.get(page) else ""
            style = "bold underline $foreground" if page == self.page else "$text-muted"
            piece = Content.assemble("  ", (page.upper(), style), (count, "bold $primary"))
            self._spans.append((column, column + piece.cell_length, page))
            column += piece.cell_length
            pieces.append(piece)
        return Content("").join(pieces)

    def on_click(self, event: events.Click) -> None:
        for start, end, page in self._spans:
            if start <= event.x < end and isinstance(self.parent, Panel):
                self.parent.show_page(page)
