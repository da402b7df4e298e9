"""Whether a trainer hangs: judged by two clocks, its heartbeat and its last step boundary. Pure: the caller says what time it is.

Heartbeat fresh and boundary old: one call does not return (CUDA, NCCL, storage). Both old: the whole process stands still, because it is
stopped, waits in the kernel, or one call holds the interpreter. A pause is no hang, and loading, evaluating and saving take their time.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tuitune.bus.envelope import as_number

FLOOR_S = 60.0  # a step may always take this long
STEPS = 10  # and this many times the median step
FIRST_STEP_S = 600.0  # while no step time is known: kernels are compiled, workers start, the proof runs
LIMITS_S = {"loading": 3600.0, "starting": 3600.0, "evaluating": 3600.0, "saving": 1800.0, "stopping": 1800.0}
AGAIN = 3  # an evaluation or a save may take this many times the longest one before it
SILENT_S = 10.0  # a heartbeat comes every second; without one for this long the process stands still
STATES = {"T": "it was stopped by a signal (kill -CONT PID lets it go on)", "D": "it waits in the kernel, for a disk or a driver"}


@dataclass
class HangWatch:
    """Fed with the trainer's records and the time (seconds of a monotonic clock) at which they were read."""

    phase: str = "starting"
    since: float | None = None  # when anything moved last: a boundary, or another phase
    beat: float | None = None  # when the last heartbeat was read
    step: int | None = None
    step_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    entered: float | None = None  # when the phase began
    longest: dict[str, float] = field(default_factory=dict)  # seconds, of the phases that are over

    def take(self, record: Mapping[str, Any], now: float) -> None:
        """Note what a record of the trainer says."""
        match record.get("ev"):
            case "state":
                self._enter(str(record.get("s")), now)
            case "hb":
                self.beat = now
                self._enter(str(record.get("phase")), now)
                age = as_number(record.get("since_boundary_s"))
                if age is not None:
                    self._moved(now - age)
                self._reach(record.get("step"), now)
            case "metrics":
                milliseconds = as_number(record.get("step_ms"))
                if milliseconds is not None and milliseconds > 0:
                    self.step_seconds.append(milliseconds / 1000)
                self._reach(record.get("step"), now)

    def limit(self) -> float | None:
        """Seconds without any movement that are too long in this phase; None where waiting is right (a pause)."""
        if self.phase != "running":
            limit = LIMITS_S.get(self.phase)
            return None if limit is None else max(limit, AGAIN * self.longest.get(self.phase, 0.0))
        return max(FLOOR_S, STEPS * median(self.step_seconds)) if self.step_seconds else max(FLOOR_S, FIRST_STEP_S)

    def still_for(self, now: float) -> float:
        """Seconds since anything moved."""
        return 0.0 if self.since is None else now - self.since

    def hangs(self, now: float, letter: str = "") -> str | None:
        """The sentence that says so, or None. letter: the kernel's for the process; one that is stopped has FLOOR_S in every phase."""
        limit, still = self.limit(), self.still_for(now)
        if limit is not None and letter == "T":
            limit = min(limit, FLOOR_S)
        if limit is None or still < limit:
            return None
        what = "no step" if self.phase == "running" else f"still {self.phase}, and nothing has moved"
        usual = f" (a step takes {median(self.step_seconds):.2g} s)" if self.phase == "running" and self.step_seconds else ""
        return f"{what} for {still:.0f} s{usual}: {self._where(now, letter)}"

    def _where(self, now: float, letter: str) -> str:
        if letter in STATES:
            return STATES[letter]
        if self.beat is not None and now - self.beat < SILENT_S:
            return "its heartbeat goes on, so one call does not return (CUDA, NCCL or storage)"
        if self.beat is None:
            return "it has not told a heartbeat yet"
        return "its heartbeat is silent too: one call holds the whole interpreter, or the process stands still"

    def _enter(self, phase: str, now: float) -> None:
        if phase != self.phase:
            if self.entered is not None:
                self.longest[self.phase] = max(now - self.entered, self.longest.get(self.phase, 0.0))
            self.phase, self.entered = phase, now
            self._moved(now)

    def _reach(self, step: object, now: float) -> None:
        if isinstance(step, int) and step != self.step:
            self.step = step
            self._moved(now)

    def _moved(self, when: float) -> None:
        self.since = when if self.since is None else max(self.since, when)
