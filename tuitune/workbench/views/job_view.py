"""A job that is no chat (evaluation, merge, export, push, sweep): its state, progress, log and result in plain lines."""

import asyncio
from pathlib import Path
from typing import Any

from textual import work
from textual.app import ComposeResult

from tuitune.bus.client import HubClient
from tuitune.errors import UserError
from tuitune.text import printable
from tuitune.workbench.parts.broken_text import broken_up
from tuitune.workbench.parts.role_lines import Line, RoleLines
from tuitune.workbench.parts.role_scroll import RoleScroll
from tuitune.workbench.signs import state_sign
from tuitune.workbench.views.chat.feed import JobFeed
from tuitune.workbench.views.following import Following

DEPTH = 4  # levels of a result that are shown


class JobView(Following):
    """`path` is the job's run directory."""

    kind = "job"
    DEFAULT_CSS = """
    JobView { layout: vertical; }
    JobView > RoleLines { height: auto; max-height: 6; padding: 0 1; }
    JobView > RoleScroll { height: 1fr; padding: 0 1; }
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.feed = JobFeed(path, self.arrived)
        self.feeds = [self.feed]
        self.body = RoleScroll(follow=True)

    def compose(self) -> ComposeResult:
        yield RoleLines(id="job-head")
        yield self.body

    def focus_content(self) -> None:
        self.body.focus()

    @work(group="job-stop")
    async def action_run_stop(self) -> None:
        """Shift+F5: end the job; what it has done so far is its result."""
        if self.feed.state.over:
            self.notify(f"{self.title} has ended.")
            return
        try:
            reply = await asyncio.to_thread(lambda: HubClient(self.path).send("stop"))
            self.notify(printable(f"{self.title}: {reply.get('error') or 'it ends with what it has done so far'}"), markup=False)
        except UserError as error:
            self.notify(printable(str(error), newlines=True), severity="error", markup=False)

    def _paint(self) -> None:
        self._paint_waits = False
        if not self.is_attached:
            return
        self.pace.painted()
        state, width = self.feed.state, max(20, self.size.width - 3)
        sign, role = state_sign(state.state)
        self.status = state.state
        why = broken_up(printable(state.why), width, "dim")
        self.query_one("#job-head", RoleLines).show(
            [((f"{sign} {state.state}", role), ("  " + progress_words(self.feed.progress), "")), *why]
        )
        self.body.show(
            [
                *[line for text in state.log for line in broken_up(text, width)],
                *[line for event in state.events if event.kind == "warning" for line in broken_up(event.text, width, "warn")],
                *([(), (("Result", "title"),)] if self.feed.result else []),
                *result_lines(self.feed.result or {}, width),
            ]
            or [(("It has printed nothing yet.", "dim"),)]
        )


def progress_words(record: dict[str, Any] | None) -> str:
    """How far a job is, of its newest `progress`."""
    if record is None:
        return ""
    return printable(f"{record.get('done')} of {record.get('total')} {record.get('what') or ''}", limit=120)


def result_lines(result: Any, width: int, depth: int = 0) -> list[Line]:
    """A result's names and values, nested ones indented."""
    indent = "  " * depth
    if isinstance(result, dict) and depth < DEPTH:
        lines: list[Line] = []
        for name, value in result.items():
            if isinstance(value, dict | list) and value:
                lines += [((f"{indent}{printable(str(name), limit=60)}", "dim"),), *result_lines(value, width, depth + 1)]
            else:
                lines += broken_up(f"{indent}{name}: {value}", width)
        return lines
    if isinstance(result, list) and depth < DEPTH:
        return [line for item in result[:200] for line in result_lines(item, width, depth)]
    return list(broken_up(f"{indent}{result}", width))
