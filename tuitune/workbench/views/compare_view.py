"""Two or more runs beside each other: one metric of all of them in a chart, and the values in which they differ.

The path is the folder of the runs and their names joined by "+", so that a comparison is a tab like any other.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from textual import work
from textual.app import ComposeResult

from tuitune.runs.compare import Difference, differ
from tuitune.runs.directory import RunDirectory
from tuitune.text import printable
from tuitune.workbench import figures
from tuitune.workbench.commands import run as commands
from tuitune.workbench.parts.role_lines import RoleLines
from tuitune.workbench.parts.role_scroll import RoleScroll
from tuitune.workbench.run_feed import RunFeed
from tuitune.workbench.views.following import Following
from tuitune.workbench.views.run.charts import ChartBox
from tuitune.workbench.views.run.compared import difference_lines, letter_of, role_of, run_lines
from tuitune.workbench.views.run.header import SHORT
from tuitune.workbench.views.run.plot import Figure, PlotLine, Window

JOIN = "+"  # no run's name has it
FIRST = ("loss", "eval_loss")  # the metrics that are shown first
DIFFER_EVERY = 10.0  # seconds between looks at recipes and ledgers while a run lives


def comparison_path(folder: Path, names: Sequence[str]) -> Path:
    """The path of the tab that compares these runs of a folder."""
    return folder / JOIN.join(names)


class CompareView(Following):
    """`path`: the folder of the runs and their names joined by "+"."""

    kind = "compare"
    commands = commands.COMPARE_COMMANDS
    DEFAULT_CSS = """
    CompareView { layout: vertical; }
    CompareView > #compare-runs { height: auto; max-height: 8; padding: 0 1; }
    CompareView > ChartBox { height: 3fr; margin: 0 1; }
    CompareView > RoleScroll { height: 2fr; padding: 0 1; }
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.names = path.name.split(JOIN)
        self.runs = [(path.parent / name).resolve() for name in self.names]
        self.feeds = [RunFeed(run, self.arrived) for run in self.runs]
        self.metric = FIRST[0]
        self.differences: tuple[list[Difference], list[str]] | None = None
        self.chart = ChartBox("compare", Window())
        self.table = RoleScroll()
        self._differed = -DIFFER_EVERY

    @property
    def title(self) -> str:
        return printable(f"compare {len(self.names)} runs")

    def compose(self) -> ComposeResult:
        yield RoleLines(id="compare-runs")
        yield self.chart
        yield self.table

    def focus_content(self) -> None:
        self.table.focus()  # up and down scroll it; the other keys are the chart's

    @property
    def metrics(self) -> list[str]:
        """The metrics that any of the runs has, those of FIRST first."""
        names = {name for feed in self.feeds for name in feed.state.metrics}
        return [*(name for name in FIRST if name in names), *sorted(names - {*FIRST})]

    def _paint(self) -> None:
        self._paint_waits = False
        if not self.is_attached or not self.display or not self.size.width:
            return
        started, states = self.pace.painted(), [feed.state for feed in self.feeds]
        width = max(20, self.size.width - 2)
        self.query_one("#compare-runs", RoleLines).show(run_lines(self.names, states, width))
        self.chart.figure = self._figure()
        self.chart.draw()
        if monotonic() - self._differed >= DIFFER_EVERY and (self.differences is None or not all(state.over for state in states)):
            self._differed = monotonic()
            self._differ()
        if self.differences is not None:
            self.table.show(difference_lines(*self.differences, len(self.names), width - 1))
        self.status = f"{SHORT.get(self.metric, self.metric)} of {len(self.names)} runs"
        self.call_after_refresh(self.pace.took, started)

    def _figure(self) -> Figure:
        lines = [
            PlotLine(letter_of(index), role_of(index), feed.state.metrics[self.metric])
            for index, feed in enumerate(self.feeds)
            if self.metric in feed.state.metrics
        ]
        title = SHORT.get(self.metric, self.metric.replace("_", " "))
        rate = figures.rate if self.metric == "tokens_per_second" else figures.number
        limit = max((feed.state.max_steps or 0 for feed in self.feeds), default=0) or None
        return Figure(
            title, lines, value=rate, place=lambda x: figures.UNKNOWN if x is None else f"{x:.0f}", limit=limit, empty=f"no {title} yet"
        )

    @work(exclusive=True, group="differ")
    async def _differ(self) -> None:
        self.differences = await asyncio.to_thread(differ, [RunDirectory(run) for run in self.runs])
        self._paint()

    # Commands of commands/run.py

    def action_other_metric(self) -> None:
        """The next metric of the runs."""
        names = self.metrics
        if names:
            self.metric = names[(names.index(self.metric) + 1) % len(names)] if self.metric in names else names[0]
            self.chart.set_metric(self.metric)
            self._paint()

    def action_zoom_in(self) -> None:
        """Half as much of the x axis."""
        self._zoom(0.5)

    def action_zoom_out(self) -> None:
        """Twice as much of the x axis."""
        self._zoom(2.0)

    def _zoom(self, factor: float) -> None:
        self.chart.window.zoom(self.chart.figure, factor)
        self.chart.draw()

    def action_fit(self) -> None:
        """Everything, without a cursor."""
        self.chart.window.fit()
        self.chart.draw()

    def action_cursor_left(self) -> None:
        """The value cursor one cell to the left."""
        self._move(-1)

    def action_cursor_right(self) -> None:
        """The value cursor one cell to the right."""
        self._move(1)

    def _move(self, by: int) -> None:
        self.chart.window.move(self.chart.figure, by, self.chart.size.width - 8)
        self.chart.draw()

    def action_log_scale(self) -> None:
        """Logarithmic or linear."""
        self.chart.log_values = not self.chart.log_values
        self.chart.draw()

    def action_smooth(self) -> None:
        """The next level of smoothing."""
        self.chart.smooth()
