"""How often the live parts paint: twice a second, slower while the terminal line cannot keep up. Imports nothing of Textual."""

from collections.abc import Callable
from time import monotonic

FAST, SLOW = 0.5, 2.0  # seconds between paints on a good and on a slow line
BLOCKED, FREE = 0.25, 0.08  # a paint that takes longer means a blocked line; this many short ones in a row mean a good one again
CALM = 5
FAR, NEAR = 0.2, 0.15  # seconds of a round trip: two longer ones in a row mean a slow line, two shorter ones a good one again
PINS = ("auto", "slow", "fast")


class Link:
    """What is known of the line to the terminal; all live parts of an app share one. `pinned`: one of PINS, "auto" or what the user calls
    it. `painted` is called after each paint of a live part, `changed` when `words` say something else."""

    def __init__(self, pinned: str = "auto") -> None:
        self.pinned = pinned
        self.blocked = False
        self.far = False
        self.painted: Callable[[], None] = lambda: None
        self.changed: Callable[[], None] = lambda: None
        self._short = 0
        self._trips: list[float] = []  # the last two

    @property
    def slow(self) -> bool:
        """Whether to send little."""
        return self.pinned == "slow" or (self.pinned == "auto" and (self.blocked or self.far))

    @property
    def settled(self) -> bool:
        """Whether the last two round trips say the same."""
        return len(self._trips) == 2 and (self._trips[-1] > FAR if self.far else self._trips[-1] <= FAR)

    @property
    def words(self) -> str:
        """That the line is slow and how it is known, for the status bar; "" while it is good."""
        if not self.slow:
            return ""
        if self.pinned == "slow":
            return "slow line (set)"
        return f"slow line ({self._trips[-1] * 1000:.0f} ms)" if self.far else "slow line"

    def took(self, seconds: float) -> None:
        """A paint took so long to reach the terminal's queue."""
        before = self.words
        if seconds > BLOCKED:
            self.blocked, self._short = True, 0
        elif seconds < FREE:
            self._short += 1
            if self._short >= CALM:
                self.blocked = False
        else:
            self._short = 0
        self.painted()
        self._tell(before)

    def round_trip(self, seconds: float) -> None:
        """The terminal's answer took so long, or has not come for so long."""
        before = self.words
        self._trips = [*self._trips[-1:], seconds]
        if len(self._trips) == 2:
            self.far = min(self._trips) > FAR or (self.far and max(self._trips) >= NEAR)
        self._tell(before)

    def _tell(self, before: str) -> None:
        if self.words != before:
            self.changed()


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
