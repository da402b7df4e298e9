"""A run, live or after its end: where it stands, its charts, memory, log, effective config and events.

A reader thread (run_feed) fills the RunState; this view paints it at most twice a second. What it tells the trainer is in run/live.py.
"""

from pathlib import Path
from time import monotonic, time
from typing import ClassVar

from textual.app import ComposeResult
from textual.widgets import ContentSwitcher

from tuitune.workbench.commands import run as commands
from tuitune.workbench.gpu_feed import GpuFeed, GpuNow
from tuitune.workbench.parts.gpu_panel import wrapped
from tuitune.workbench.parts.role_lines import RoleLines
from tuitune.workbench.run_feed import RunFeed
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.following import Following
from tuitune.workbench.views.run.charts import ChartPage
from tuitune.workbench.views.run.command_bar import CommandBar
from tuitune.workbench.views.run.header import banner, header_lines, summary
from tuitune.workbench.views.run.live import LiveCommands
from tuitune.workbench.views.run.memory import torch_figures
from tuitune.workbench.views.run.pages import ConfigPage, EventsPage, LogPage, Page, QueuePage, SamplesPage
from tuitune.workbench.views.run.slow import Reading, SlowPage, brief_line

STATUS_PERIOD = 2.0  # seconds between news for the status bar: each redraws tabs and bars


class RunDashboard(LiveCommands, Following):
    """The dashboard of one run directory."""

    kind = "run"
    commands = commands.DASHBOARD_COMMANDS
    can_focus = True
    DEFAULT_CSS = """
    RunDashboard { layout: vertical; }
    RunDashboard > #run-banner { height: auto; max-height: 4; padding: 0 1; }
    RunDashboard > #run-header { height: 2; padding: 0 1; }
    RunDashboard > #run-slow { height: 1; padding: 0 1; }
    RunDashboard > ContentSwitcher { height: 1fr; }
    """
    pages: ClassVar[tuple[str, ...]] = ("charts", "log", "config", "events", "queue", "samples", "slow")

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.feed = RunFeed(path, self.arrived)
        self.feeds = [self.feed]
        self.slow = Reading(path)
        self._caught_up = self._status_waits = False
        self._told_status = -STATUS_PERIOD
        self._told_news = (0, 0)

    @property
    def run_state(self) -> RunState:
        """The run as far as it was read."""
        return self.feed.state

    def compose(self) -> ComposeResult:
        yield RoleLines(id="run-header")
        yield RoleLines(id="run-slow")
        yield RoleLines(id="run-banner")
        with ContentSwitcher(initial="charts"):
            yield ChartPage(id="charts")
            yield LogPage(id="log")
            yield ConfigPage(self.feed.run.effective, id="config")
            yield EventsPage(id="events")
            yield QueuePage(id="queue")
            yield SamplesPage(id="samples")
            yield SlowPage(self.slow, id="slow")
        yield CommandBar(lambda: self.run_state)

    def _paint(self) -> None:
        """Show the state as it is; each part redraws only what differs."""
        self._paint_waits = False
        if not self.is_mounted or not self.is_attached:
            return
        state, started = self.run_state, self.pace.painted()
        self._tell_status(state)
        if self._told_news != (state.commands_seen, state.samples_seen) or state.pending:  # what waits says for how long
            self._told_news = state.commands_seen, state.samples_seen
            self.post_message(self.RunNews(self))
        self._offer_gpu_figures(state)
        self.tell_answers()
        self.tell_alarms(quietly=not self._caught_up)
        self._caught_up |= self.feed.caught_up
        if not self.display:
            return
        width = max(20, self.size.width - 2)
        self.query_one("#run-header", RoleLines).show(header_lines(state, time(), width))
        slow, brief = self.query_one("#run-slow", RoleLines), brief_line(self.slow.why(state), width)
        slow.display = bool(brief)
        slow.show([brief])
        sentence, role = banner(state, self.feed.problem)
        if self.feed.replaying and not sentence:
            sentence, role = f"reading the run's history: {state.records:,} records", "dim"
        warning = self.query_one("#run-banner", RoleLines)
        warning.display = bool(sentence)
        warning.show(wrapped(sentence, width, role))
        self.page.show_state(state)
        bar = self.query_one(CommandBar)
        if bar.display:
            bar.show_words()
        self.call_after_refresh(self.pace.took, started)

    def _tell_status(self, state: RunState) -> None:
        """News for the status bar, now or when they are due."""
        words = summary(state) + (" · painted every 2 s" if self.pace.link.slow and not state.over else "")
        due = self._told_status + STATUS_PERIOD - monotonic()
        if due <= 0 or state.over:
            self._told_status, self.status = monotonic(), words
        elif words != self.status and not self._status_waits:
            self._status_waits = True
            self.set_timer(due, self._tell_late_status)

    def _tell_late_status(self) -> None:
        self._status_waits = False
        self._tell_status(self.run_state)

    def _offer_gpu_figures(self, state: RunState) -> None:
        feed = getattr(self.app, "gpu_feed", None)
        if isinstance(feed, GpuFeed) and self.feed.alive and not state.over and state.gpu_now.devices:
            feed.offer(GpuNow(state.gpu_now, state.host_now, self.path.name, torch_figures(state)))

    @property
    def page(self) -> Page:
        """The page on screen."""
        switcher = self.query_one(ContentSwitcher)
        return switcher.query_one(f"#{switcher.current}", Page)

    @property
    def charts(self) -> ChartPage:
        """The charts, on screen or not."""
        return self.query_one(ChartPage)

    def show_page(self, name: str) -> None:
        """Bring a page to the front; asked for again, the charts come back."""
        switcher = self.query_one(ContentSwitcher)
        switcher.current = "charts" if switcher.current == name else name
        self.breadcrumb = "" if switcher.current == "charts" else str(switcher.current)
        self.call_after_refresh(self._paint)  # when the page has its size
        self.focus_content()

    def focus_content(self) -> None:
        target = self.page.focus_target
        (target or self).focus()

    # Commands of commands/run.py

    def action_next_chart(self) -> None:
        """The keys go to the next chart."""
        self.charts.step(1)

    def action_previous_chart(self) -> None:
        """The keys go to the chart before."""
        self.charts.step(-1)

    def action_zoom_in(self) -> None:
        """Half as much of the x axis."""
        self.charts.zoom(0.5)

    def action_zoom_out(self) -> None:
        """Twice as much of the x axis."""
        self.charts.zoom(2.0)

    def action_fit(self) -> None:
        """Everything, without a cursor."""
        self.charts.fit()

    def action_cursor_left(self) -> None:
        """The value cursor one cell to the left."""
        self.charts.move(-1)

    def action_cursor_right(self) -> None:
        """The value cursor one cell to the right."""
        self.charts.move(1)

    def action_next_mark(self) -> None:
        """The value cursor to the next mark."""
        self._to_mark(1)

    def action_previous_mark(self) -> None:
        """The value cursor to the mark before."""
        self._to_mark(-1)

    def _to_mark(self, by: int) -> None:
        if not self.charts.to_mark(by):
            self.notify("Nothing is marked any further that way.")

    def action_log_scale(self) -> None:
        """Logarithmic or linear."""
        self.charts.log_scale()

    def action_smooth(self) -> None:
        """The next level of smoothing."""
        self.charts.active.smooth()

    def action_maximise_chart(self) -> None:
        """The active chart alone, or all."""
        self.charts.maximise()

    def action_other_metric(self) -> None:
        """Another metric in the active chart."""
        if self.charts.other_metric() is None:
            self.notify("This chart shows one thing only: Tab goes to one that can show another metric.")

    def action_next_gpu(self) -> None:
        """The memory of the run's next GPU."""
        if self.charts.next_gpu() < 2:
            self.notify("This run is on one GPU." if self.run_state.gpus else "This run is on the CPU.")

    def action_show_log(self) -> None:
        """The log, or the charts again."""
        self.show_page("log")

    def action_show_config(self) -> None:
        """The effective config, or the charts again."""
        self.show_page("config")

    def action_show_events(self) -> None:
        """The events, or the charts again."""
        self.show_page("events")

    def action_show_queue(self) -> None:
        """The commands of this run, or the charts again."""
        self.show_page("queue")

    def action_show_samples(self) -> None:
        """The model's answers, or the charts again."""
        self.show_page("samples")

    def action_show_slow(self) -> None:
        """Why the run is slow, or the charts again."""
        self.show_page("slow")

    def action_show_charts(self) -> None:
        """Back to the charts; on them, from one to all."""
        if self.query_one(ContentSwitcher).current != "charts":
            self.show_page("charts")
        else:
            self.charts.leave()
