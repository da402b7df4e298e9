"""The pages of the run dashboard beside the charts: the log's tail, the effective config, the events, the queue, the samples."""

from collections.abc import Callable
from pathlib import Path
from time import time

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widget import Widget

from tuitune.workbench.parts.role_lines import Line, RoleLines
from tuitune.workbench.parts.role_scroll import RoleScroll
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.run import queue, samples
from tuitune.workbench.views.run.events import config_lines, event_line, traceback_lines


class Page(Vertical):
    """One page; its `show_state` is called when it is on screen and something may have changed."""

    show_state: Callable[[RunState], None]
    DEFAULT_CSS = "Page { height: 1fr; padding: 0 1; }"

    @property
    def focus_target(self) -> Widget | None:
        """What takes the keys while the page is on screen; None = the dashboard itself."""
        return None


class ScrollPage(Page):
    """A title line and a long list of lines."""

    def __init__(self, *, follow: bool, id: str) -> None:
        super().__init__(id=id)
        self.title_line = RoleLines([()])
        self.body = RoleScroll(follow=follow)

    def compose(self) -> ComposeResult:
        yield self.title_line
        yield self.body

    @property
    def focus_target(self) -> Widget:
        return self.body

    def put(self, title: str, note: str, lines: list[Line], moved_up: int = 0) -> None:
        """Show the title, a remark beside it, and the lines."""
        self.title_line.show([((title, "title"), (f"  {note}", "dim"))])
        self.body.show(lines, moved_up=moved_up)


class LogPage(ScrollPage):
    """What the trainer prints; follows while its end is on screen."""

    def __init__(self, *, id: str) -> None:
        super().__init__(follow=True, id=id)
        self._seen = -1
        self._held = 0

    def show_state(self, state: RunState) -> None:
        if state.log_seen == self._seen:
            return
        dropped = max(0, self._held + (state.log_seen - max(0, self._seen)) - len(state.log))
        self._seen, self._held = state.log_seen, len(state.log)
        lines: list[Line] = [((text, ""),) for text in state.log]
        note = f"{state.log_seen:,} lines" + (
            f", the last {len(state.log):,} are here, all are in log/" if state.log_seen > len(state.log) else ""
        )
        self.put("Log", note, lines or [(("The trainer has printed nothing yet.", "dim"),)], moved_up=dropped)


class ConfigPage(ScrollPage):
    """Every value the run trains with and where it came from, read again when the file changes."""

    def __init__(self, effective: Path, *, id: str) -> None:
        super().__init__(follow=False, id=id)
        self.effective = effective
        self._read: int | None = None

    def show_state(self, state: RunState) -> None:
        try:
            stamp = self.effective.stat().st_mtime_ns
        except OSError:
            stamp = 0
        if self._read == stamp:
            return
        self._read = stamp
        lines = config_lines(self.effective)
        self.put(
            "Effective config",
            "what the built trainer says of itself: lines of the recipe and adjustments first, then defaults" if stamp else "",
            lines,
        )


class EventsPage(ScrollPage):
    """Commands, checkpoints, evaluations, faults; after a crash its traceback."""

    def __init__(self, *, id: str) -> None:
        super().__init__(follow=True, id=id)
        self._seen: tuple[int, bool] | None = None

    def show_state(self, state: RunState) -> None:
        if self._seen == (state.events_seen, state.crash is not None):
            return
        self._seen = (state.events_seen, state.crash is not None)
        lines = [event_line(event) for event in sorted(state.events, key=lambda event: event.time)]
        self.put("Events", f"{state.events_seen:,}", [*lines, *traceback_lines(state)] or [(("Nothing has happened yet.", "dim"),)])


class QueuePage(ScrollPage):
    """The commands of the run: what waits, and what was answered."""

    def __init__(self, *, id: str) -> None:
        super().__init__(follow=False, id=id)

    def show_state(self, state: RunState) -> None:
        waiting = len(state.pending)
        lines = queue.queue_lines(state, time(), max(20, self.size.width - 3))
        self.put("Queue", f"{waiting} waiting" if waiting else "nothing waits", lines or [((queue.NONE_YET, "dim"),)])


class SamplesPage(ScrollPage):
    """What the model answers while it trains."""

    def __init__(self, *, id: str) -> None:
        super().__init__(follow=False, id=id)
        self._seen: tuple[int, int] | None = None

    def show_state(self, state: RunState) -> None:
        width = max(20, self.size.width - 3)
        if self._seen == (state.samples_seen, width):
            return
        self._seen = (state.samples_seen, width)
        lines = samples.sample_lines(state, width)
        self.put("Samples", f"{state.samples_seen:,}" if lines else "", lines or [((samples.NONE_YET, "dim"),)])
