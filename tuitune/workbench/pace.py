"""How often the live parts paint: twice a second, slower while the terminal line cannot keep up. Imports nothing of Textual."""

from time import monotonic

FAST, SLOW = 0.5, 2.0  # seconds between paints on a good and on a slow line
BLOCKED, FREE = 0.25, 0.08  # a paint that takes longer means a blocked line; this many short ones in a row mean a good one again
CALM = 5


class Link:
    """What is known of the line to the terminal; all live parts of an app share one. `always_slow`: the user says so (--slow)."""

    def __init__(self, *, always_slow: bool = False) -> None:
        self.always_slow = always_slow
        self.blocked = False
        self._short = 0

    @property
    def slow(self) -> bool:
        """Whether to send little."""
        return self.always_slow or self.blocked

    def took(self, seconds: float) -> None:
        """A paint took so long to reach the terminal's queue."""
        if seconds > BLOCKED:
            self.blocked, self._short = True, 0
        elif seconds < FREE:
            self._short += 1
            if self._short >= CALM:
                self.blocked = False
        else:
            self._short = 0


class Pace:
    """Textual's writer blocks the event loop when its queue is full, so the time from a paint to the next idle moment tells the line."""

    def __init__(self, link: Link | None = None) -> None:
        self.link = link or Link()
        self.period = FAST
        self._last = -SLOW

    def wait(self) -> float:
        """Seconds until the next paint is due; 0 or less = now."""
        return self._last + (max(SLOW, self.period) if self.link.slow else self.period) - monotonic()

    def painted(self) -> float:
        """A paint starts now; returns the moment to hand to `took`."""
        self._last = monotonic()
        return self._last

    def took(self, started: float) -> None:
        """The paint that started then has reached the terminal's queue."""
        self.link.took(monotonic() - started)
