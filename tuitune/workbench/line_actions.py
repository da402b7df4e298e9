"""The line to the terminal: whether it is slow is measured (terminal/round_trip.py, pace.py), or said by the user."""

from __future__ import annotations

from collections.abc import Callable

from textual import events

from tuitune.workbench.evaluation_actions import EvaluationActions
from tuitune.workbench.pace import FAR, FAST, SLOW, Link
from tuitune.workbench.terminal.round_trip import RoundTrip

CHOSEN = {
    "auto": "live figures come twice a second, and every other second while the line blocks or answers late",
    "slow": "live figures come every other second",
    "fast": "live figures come twice a second, whatever the line does",
}


class LineActions(EvaluationActions):
    """The handler of app.line, and what the terminal answers. `show_status` is Workbench's."""

    link: Link
    round_trip: RoundTrip
    show_status: Callable[[], None]

    def watch_line(self, pinned: str) -> None:
        """From now on, know the line; `pinned` as of Link."""
        self.link = Link(pinned)
        self.round_trip = RoundTrip(self.link, self._to_terminal)
        self.link.painted, self.link.changed = self.round_trip.painted, lambda: self.show_status()

    def _to_terminal(self, text: str) -> None:
        if self._driver is not None:
            self._driver.write(text)

    def on_cursor_position(self, event: events.CursorPosition) -> None:
        """The terminal's answer, stamped when it was read."""
        self.round_trip.answered(event.time)

    def action_choose_line(self) -> None:
        """Say whether the line to this terminal is slow, or leave that to be measured."""
        from tuitune.workbench.parts.confirm import Choice, Confirm

        lines = [
            f"Live figures come every {FAST:g} s, on a slow line every {SLOW:g} s.",
            f"By itself: slow while a paint blocks or the terminal takes more than {FAR * 1000:.0f} ms to answer. tmux and mosh answer at "
            "once, however slow the line behind them is.",
            f"Now: {self.link.words or 'a good one'}{' (measured)' if self.link.pinned == 'auto' else ''}.",
        ]
        choices = [Choice("a", "By itself", "auto"), Choice("s", "Slow", "slow"), Choice("f", "Fast", "fast")]
        self.push_screen(Confirm("The line to this terminal", lines, choices), self._keep_line)

    def _keep_line(self, chosen: str | None) -> None:
        if chosen:
            self.link.pinned = self.settings.line = chosen
            self._keep_settings()
            self.show_status()
            self.notify(f"Line: {CHOSEN[chosen]}.")
