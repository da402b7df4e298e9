"""The panel below the editor: problems of the recipe at hand, what was told so far, and the runs that are alive."""

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
from tuitune.workbench.commands import registry
from tuitune.workbench.signs import state_sign
from tuitune.workbench.widgets.line_list import LineList

if TYPE_CHECKING:
    from tuitune.runs.listing import RunSummary
    from tuitune.workbench.problem_list import Entry

PAGES = ("problems", "output", "queue")
KEPT = 2_000  # lines of output
SEVERITIES = {"error": ("✗", "$error"), "warning": ("⚠", "$warning"), "info": ("i", "$primary")}


class Panel(Vertical):
    """Left and right change the page; Enter goes to the problem or run under the cursor. The registry's commands of "problems" have
    their keys here."""

    BINDINGS = [
        *(
            Binding(key, f"command('{command.id}')", command.title, show=False)
            for command in registry.all_commands()
            if command.when == registry.PROBLEMS
            for key in command.keys
        ),
        Binding("left", "step_page(-1)", show=False),
        Binding("right", "step_page(1)", show=False),
        Binding("escape", "app.focus_editor", show=False),
    ]

    class Chosen(Message):
        """Please open this run."""

        def __init__(self, kind: str, path: Path) -> None:
            super().__init__()
            self.kind, self.path = kind, path

    class EntryChosen(Message):
        """Please go where this problem is."""

        def __init__(self, entry: Entry) -> None:
            super().__init__()
            self.entry = entry

    def __init__(self) -> None:
        super().__init__(id="panel")
        self.page = "problems"
        self.entries: list[Entry] = []
        self.headline, self._otherwise = "", "No file is open."
        self.runs: Sequence[RunSummary] = ()
        self.lines: deque[tuple[str, str]] = deque(maxlen=KEPT)  # (time, text)
        self._visited = -1  # index of the entry that F8 went to last
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

    async def action_command(self, command_id: str) -> None:
        """A key of the registry was pressed on the list of problems."""
        if self.page == "problems":
            await self.run_action(f"app.{registry.by_id(command_id).handler}")

    def show_problems(self, entries: list[Entry], headline: str, otherwise: str, *, anew: bool = False) -> None:
        """The problems of the recipe at hand, live ones first; `headline` stands above what preflight found. `otherwise` is said when
        there is neither; `anew`: of another recipe, so that F8 begins at the first."""
        if anew:
            self._visited = -1
        if (entries, headline, otherwise) != (self.entries, self.headline, self._otherwise):
            self.entries, self.headline, self._otherwise = entries, headline, otherwise
            self._draw("problems")

    def show_queue(self, runs: Sequence[RunSummary]) -> None:
        """The runs that are alive."""
        self.runs = runs
        self._draw("queue")

    def add_output(self, clock: str, text: str) -> None:
        """One line or several for OUTPUT; printable text."""
        self.lines.extend((clock if index == 0 else " " * len(clock), part) for index, part in enumerate(text.splitlines() or [""]))
        self._draw("output")

    @property
    def _live(self) -> int:
        """How many entries stand above the headline."""
        return sum(entry.problem is not None for entry in self.entries)

    @property
    def entry(self) -> Entry | None:
        """The problem under the cursor."""
        return self.entries[index] if (index := self._entry_at(self._list.cursor)) is not None else None

    def _entry_at(self, line: int) -> int | None:
        """The entry that a line of the list shows."""
        if self.headline and line >= self._live:
            line = line - 1 if line > self._live else -1
        return line if 0 <= line < len(self.entries) else None

    def step_problem(self, by: int) -> Entry | None:
        """The problem after (or before) the one visited last, round the end."""
        if not self.entries:
            return None
        if self._visited < 0 or self._visited >= len(self.entries):
            self._visited = 0 if by > 0 else len(self.entries) - 1
        else:
            self._visited = (self._visited + by) % len(self.entries)
        if self.page == "problems":
            self._list.cursor = self._visited + bool(self.headline and self._visited >= self._live)
        return self.entries[self._visited]

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        event.stop()
        index = self._entry_at(event.index)
        if self.page == "problems" and index is not None:
            self._visited = index
            self.post_message(self.EntryChosen(self.entries[index]))
        elif self.page == "queue" and event.index < len(self.runs):
            self.post_message(self.Chosen("run", self.runs[event.index].path))

    def _draw(self, page: str | None = None) -> None:
        self._titles.show(self.page, {"problems": len(self.entries), "queue": len(self.runs)}, self.hints)
        if page not in (None, self.page):
            return
        if self.page == "problems":
            self._show_entries()
        elif self.page == "output":
            self._show([Content.assemble((f" {clock} ", "$text-muted"), text) for clock, text in self.lines], "Nothing was told yet.")
            self._list.cursor = len(self.lines) - 1
        else:
            self._show([run_line(run) for run in self.runs], "No run is alive. F5 in a recipe starts one.")

    @property
    def hints(self) -> str:
        """The keys that help on this page."""
        if self.page != "problems" or not self.entries:
            return ""
        own = [command for command in registry.all_commands() if command.when == registry.PROBLEMS]
        return "  ".join(f"{registry.key_label(command.keys[0])} {command.title.lower()}" for command in own)

    def _show_entries(self) -> None:
        lines = [entry_line(entry) for entry in self.entries]
        if not self.headline:
            self._show(lines, self._otherwise)
            return
        at = self._live
        lines.insert(at, Content.styled(f"  {self.headline}", "$text-muted"))
        self._list.show(lines, (at,))

    def _show(self, lines: list[Content], otherwise: str) -> None:
        self._list.show(lines or [Content.styled(f"  {otherwise}", "$text-muted")], () if lines else (0,))


def entry_line(entry: Entry) -> Content:
    """✗ EMB01  fix  message  model.safetensors; dimmed when the recipe has changed since. What must be read stands where it is not cut."""
    sign, style = SEVERITIES[entry.severity]
    pieces = [
        (f"  {sign} ", f"bold {style}"),
        (f"{entry.id:<6} ", "bold"),
        ("fix " if entry.fix else "    ", "$success"),
        (printable(entry.message), ""),
        (f"  {entry.place}", "$text-muted"),
        (f"  fix: {printable(entry.fix)}" if entry.fix else "", "$success"),
    ]
    if entry.stale:
        return Content.styled("".join(text for text, _ in pieces), "$text-disabled")
    return Content.assemble(*pieces)


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
        self.page, self.hints, self.counts = "", "", {}  # type: str, str, dict[str, int]
        self._spans: list[tuple[int, int, str]] = []

    def show(self, page: str, counts: dict[str, int], hints: str = "") -> None:
        """Draw the titles with `page` marked, and the keys that help where there is room."""
        if (page, counts, hints) != (self.page, self.counts, self.hints):
            self.page, self.counts, self.hints = page, counts, hints
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
        room = self.size.width - column - 2
        if self.hints and len(self.hints) < room:
            pieces.append(Content.styled(self.hints.rjust(room), "$text-muted"))
        return Content("").join(pieces)

    def on_click(self, event: events.Click) -> None:
        for start, end, page in self._spans:
            if start <= event.x < end and isinstance(self.parent, Panel):
                self.parent.show_page(page)
