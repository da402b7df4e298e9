"""What a run is doing and has done, as plain data. run_reduce.py fills it from journal records, the views show it.

Nothing of Textual, no files, no threads.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tuitune.runs.manifest import ENDED
from tuitune.runs.slow.tally import Tally
from tuitune.workbench.gpu_reading import NO_HOST, NOT_LOOKED, GpuReading, GpuSample, HostReading
from tuitune.workbench.live_caps import HUB_OPS, Cap, read_caps
from tuitune.workbench.live_state import Alarm, CommandState, Sample, Seam
from tuitune.workbench.proof_reading import ProofReading
from tuitune.workbench.series import Series

MAX_LOG_LINES = 2_000
MAX_EVENTS = 2_000


@dataclass(frozen=True)
class Event:
    """Something that happened once: for the events tab, and with a step also a mark on the charts.

    kind: state, checkpoint, eval, command, applied, refused, stop, crash, attempt, seam, alarm, oom, number, warning, data, proof, end.
    `command`: whose answer this is; who asked for it may be read later, so its words are made when they are shown.
    """

    time: float
    kind: str
    text: str
    step: int | None = None
    command: CommandState | None = None

    @property
    def words(self) -> str:
        """What happened, in one line."""
        return self.text if self.command is None else self.command.outcome


@dataclass
class GpuHistory:
    """One GPU over the seconds since the run's first record."""

    now: GpuReading
    used: Series = field(default_factory=Series)
    process: Series = field(default_factory=Series)
    util: Series = field(default_factory=Series)
    power: Series = field(default_factory=Series)
    temperature: Series = field(default_factory=Series)


@dataclass
class TorchMemory:
    """torch's own figures for one device over the seconds since the run's first record, in bytes."""

    allocated: Series = field(default_factory=Series)
    reserved: Series = field(default_factory=Series)
    peak_allocated: Series = field(default_factory=Series)
    peak_reserved: Series = field(default_factory=Series)


@dataclass(frozen=True)
class Crash:
    """How the trainer died, in the hub's words."""

    kind: str
    hint: str
    returncode: int | None
    signal: str
    last_step: int | None
    traceback: str
    tail: tuple[str, ...]


@dataclass
class RunState:
    """Everything the workbench shows of one run."""

    state: str = "starting"
    why: str = ""
    step: int | None = None
    max_steps: int | None = None
    epoch: float | None = None
    origin: float | None = None  # unix seconds of the first record seen: x = 0 of everything over time
    first_time: float | None = None
    last_time: float | None = None
    state_time: float = -math.inf
    attempt: int = 0
    attempt_from: float = -math.inf  # the newest attempt took over after this step
    metrics: dict[str, Series] = field(default_factory=dict)
    step_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    seconds_at_step: Series = field(default_factory=Series)
    gpus: dict[str, GpuHistory] = field(default_factory=dict)
    gpu_now: GpuSample = NOT_LOOKED
    torch: list[TorchMemory] = field(default_factory=list)
    host_now: HostReading = NO_HOST
    ram: Series = field(default_factory=Series)
    tree_rss: Series = field(default_factory=Series)
    log: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_LOG_LINES))
    log_seen: int = 0  # lines ever seen: how many of them are new is the difference
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))
    events_seen: int = 0
    commands: dict[str, CommandState] = field(default_factory=dict)
    commands_seen: int = 0  # changes of commands: asked or answered
    settings: dict[str, Any] = field(default_factory=dict)  # what commands have set
    set_at: dict[str, int] = field(default_factory=dict)  # after which step each of them was: only later logs know a new learning rate
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=500))
    samples_seen: int = 0
    bases: dict[str, str] = field(default_factory=dict)  # the base model's answer by prompt
    alarms: deque[Alarm] = field(default_factory=lambda: deque(maxlen=200))
    seams: dict[int, Seam] = field(default_factory=dict)  # by attempt
    boundary: float | None = None  # unix seconds of the newest step boundary that was told
    checkpoint: tuple[int | None, float | None, float | None] | None = None  # step, bytes and seconds of the newest whole one
    hello: dict[str, dict[str, Any]] = field(default_factory=dict)  # "hub", "trainer" → their hello records
    crash: Crash | None = None
    proof: ProofReading | None = None  # of the newest attempt's longest batch
    not_finite: tuple[str, int] | None = None  # the first metric that was not a number, and its step
    tally: Tally = field(default_factory=Tally)  # where the time goes
    unknown: int = 0  # records of kinds this version does not know
    records: int = 0

    @property
    def offers(self) -> dict[str, Cap]:
        """What this run takes, by op: what its trainer's hello says, and what the hub does itself."""
        return {**{name: Cap(name, "now") for name in HUB_OPS}, **read_caps(self.hello.get("trainer", {}).get("caps"))}

    @property
    def caps(self) -> tuple[str, ...]:
        """The commands this trainer takes, as its hello says."""
        return tuple(read_caps(self.hello.get("trainer", {}).get("caps")))

    @property
    def seam(self) -> Seam | None:
        """Where the newest attempt took over, None for the first or when it has not told yet."""
        return self.seams.get(self.attempt)

    @property
    def alarm(self) -> Alarm | None:
        """The newest alarm of this attempt that nobody has acted on: no command of the proposed op was applied after it."""
        alarm = self.alarms[-1] if self.alarms and not self.over else None
        if alarm is None or alarm.attempt != self.attempt:
            return None
        acted = alarm.op and any(
            command.op == alarm.op and command.state == "applied" and command.time >= alarm.time for command in self.commands.values()
        )
        return None if acted else alarm

    @property
    def pending(self) -> list[CommandState]:
        """The commands that nobody has answered yet, oldest first."""
        return sorted((command for command in self.commands.values() if command.state == "queued"), key=lambda command: command.time)

    @property
    def world(self) -> int:
        """The number of processes that train; 1 when the trainer has not said."""
        world = self.hello.get("trainer", {}).get("world")
        return world if isinstance(world, int) and not isinstance(world, bool) and world > 0 else 1

    def setting(self, name: str) -> Any:
        """The present value of something that `set` or `reshape` changes; None when it is not known."""
        rates = self.metrics.get("learning_rate")
        if name == "learning_rate" and rates and self.set_at.get(name, -1) < rates.xs[-1]:
            return rates.last
        if name == "max_steps" and self.max_steps is not None:
            return self.max_steps
        if name in self.settings:
            return self.settings[name]
        return next((cap.settings[name].value for cap in self.offers.values() if name in cap.settings), None)

    def note(self, event: Event) -> None:
        """Add an event."""
        self.events.append(event)
        self.events_seen += 1

    @property
    def over(self) -> bool:
        """Whether nothing more will come, unless the run is resumed."""
        return self.state in ENDED

    @property
    def elapsed(self) -> float | None:
        """Seconds between the first and the last record."""
        return None if self.first_time is None or self.last_time is None else self.last_time - self.first_time

    @property
    def eta(self) -> float | None:
        """Seconds until the last step: the median of the last step times, which a slow evaluation does not bend."""
        if self.over or not self.step_seconds or self.step is None or self.max_steps is None:
            return None
        return max(0, self.max_steps - self.step) * median(self.step_seconds)

    def value(self, name: str) -> float | None:
        """The newest value of a metric."""
        series = self.metrics.get(name)
        return series.last if series else None

    def marks(self) -> Iterator[Event]:
        """The events that belong to a step."""
        return (event for event in self.events if event.step is not None)
