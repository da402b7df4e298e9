"""How often a dashboard paints: twice a second, slower by itself when the terminal line cannot keep up. Imports nothing of Textual."""

from time import monotonic

FAST, SLOW = 0.5, 2.0  # seconds between paints on a good and on a blocked line
BLOCKED, FREE = 0.25, 0.08  # a paint that takes longer means a blocked line; this many short ones in a row mean a good one again
CALM = 5


class Pace:
    """Textual's writer blocks the event loop when its queue is full, so the time from a paint to the next idle moment tells the line."""

    def __init__(self) -> None:
        self.period = FAST
        self._last = -SLOW
        self._short = 0

    def wait(self) -> float:
        """Seconds until the next paint is due; 0 or less = now."""
        return self._last + self.period - monotonic()

    def painted(self) -> float:
        """A paint starts now; returns the moment to hand to `took`."""
        self._last = monotonic()
        return self._last

    def took(self, started: float) -> None:
        """The paint that started then has reached the terminal's queue."""
        seconds = monotonic() - started
        if seconds > BLOCKED:
            self.period, self._short = SLOW, 0
        elif seconds < FREE:
            self._short += 1
            if self._short >= CALM:
                self.period = FAST
        else:
            self._short = 0
