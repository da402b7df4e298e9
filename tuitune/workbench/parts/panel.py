"""The panel below the editor: problems of the recipe at hand, what was told so far, the commands of the run at hand and the runs that
are alive, and what the run at hand answers while it trains."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message

from tuitune.text import printable
from tuitune.workbench.commands import registry
from tuitune.workbench.parts.panel_lines import entry_line, run_line
from tuitune.workbench.parts.panel_titles import PanelTitles
from tuitune.workbench.parts.role_lines import Line, as_content
from tuitune.workbench.widgets.line_list import LineList

if TYPE_CHECKING:
    from tuitune.runs.listing import RunSummary
    from tuitune.workbench.problem_list import Entry
    from tuitune.workbench.run_state import RunState

PAGES = ("problems", "output", "queue", "samples")
KEPT = 2_000  # lines of output


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
        self.run_name, self.run_state = "", None  # type: str, RunState | None
        self.lines: deque[tuple[str, str]] = deque(maxlen=KEPT)  # (time, text)
        self._visited = -1  # index of the entry that F8 went to last
        self._titles = PanelTitles(PAGES)
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
        """Show a page of PAGES."""
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

    def show_run(self, name: str, state: RunState | None) -> None:
        """The run at hand, whose commands and answers are shown; None when the tab in front is no run."""
        self.run_name, self.run_state = name, state
        self._draw("queue")
        self._draw("samples")

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
        elif self.page == "queue" and 0 <= (place := event.index - len(self._own_queue())) < len(self.runs):
            self.post_message(self.Chosen("run", self.runs[place].path))

    def on_panel_titles_clicked(self, event: PanelTitles.Clicked) -> None:
        event.stop()
        self.show_page(event.page)

    def _draw(self, page: str | None = None) -> None:
        seen = self.run_state.samples_seen if self.run_state is not None else 0
        self._titles.show(self.page, {"problems": len(self.entries), "queue": len(self.runs), "samples": seen}, self.hints)
        if page not in (None, self.page):
            return
        if self.page == "problems":
            self._show_entries()
        elif self.page == "output":
            self._show([Content.assemble((f" {clock} ", "$text-muted"), text) for clock, text in self.lines], "Nothing was told yet.")
            self._list.cursor = len(self.lines) - 1
        elif self.page == "queue":
            own = self._own_queue()
            runs = [run_line(run) for run in self.runs]
            self._show([*own, *runs], "No run is alive. F5 in a recipe starts one.", headed=bool(own))
        else:
            answers = self._answers()
            self._show(
                answers, "No answers: open a run whose recipe has watch.prompts, or let it answer (n on its dashboard).", headed=True
            )

    def _own_queue(self) -> list[Content]:
        """The commands of the run at hand, below its name."""
        if self.run_state is None or not self.run_state.commands:
            return []
        from tuitune.workbench.views.run.queue import queue_lines

        return self._of_run(queue_lines(self.run_state, time(), max(20, self.size.width - 4)))

    def _answers(self) -> list[Content]:
        """The newest answers of the run at hand, below its name."""
        if self.run_state is None or not self.run_state.samples:
            return []
        from tuitune.workbench.views.run.samples import brief_lines

        return self._of_run(brief_lines(self.run_state, max(20, self.size.width - 4)))

    def _of_run(self, lines: list[Line]) -> list[Content]:
        name = Content.styled(f"  {printable(self.run_name)}", "$text-muted")
        return [name, *(Content("  ").join([Content(""), as_content(line)]) for line in lines)]

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

    def _show(self, lines: list[Content], otherwise: str, *, headed: bool = False) -> None:
        """`headed`: the first line is no item."""
        self._list.show(lines or [Content.styled(f"  {otherwise}", "$text-muted")], (0,) if headed or not lines else ())
