"""A view of what runs tell: records arrive from reader threads, and it paints as often as the line to the terminal allows."""

from collections.abc import Sequence
from pathlib import Path

from textual.events import Resize, Show
from textual.message import Message

from tuitune.workbench.pace import Pace
from tuitune.workbench.run_feed import BUDGET, RunFeed
from tuitune.workbench.views.view import View


class Following(View):
    """`feeds` are started and stopped with it; each gets `arrived` to call. A view says in `_paint` what it shows."""

    class Arrived(Message):
        """A reader thread has records."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.feeds: Sequence[RunFeed] = ()
        self.pace = Pace()
        self._paint_waits = False

    def arrived(self) -> None:
        """There are records to take; from any thread."""
        self.post_message(self.Arrived())

    def on_mount(self) -> None:
        self.pace.link = getattr(self.app, "link", self.pace.link)
        for feed in self.feeds:
            feed.start()
        self._paint()

    def on_unmount(self) -> None:
        for feed in self.feeds:
            feed.stop()

    def on_resize(self, event: Resize) -> None:
        self.call_after_refresh(self._paint)

    def on_show(self, event: Show) -> None:
        self.call_after_refresh(self._paint)

    def on_following_arrived(self) -> None:
        self._advance()

    def _advance(self) -> None:
        """Take records for some milliseconds; what is left waits behind the keys that were pressed meanwhile."""
        waiting = [feed.advance(BUDGET / len(self.feeds)) for feed in self.feeds]  # of all of them, so no generator
        if any(waiting):
            self.set_timer(0.004, self._advance)
        self._paint_soon()

    def _paint_soon(self) -> None:
        if self._paint_waits:
            return
        wait = self.pace.wait()
        if wait <= 0:
            self._paint()
        else:
            self._paint_waits = True
            self.set_timer(wait, self._paint)

    def _paint(self) -> None:
        """Show the state as it is; each part redraws only what differs."""
        raise NotImplementedError
