"""What a run's records say of where its time goes, taken one by one. Pure; whoever follows a journal keeps one of these beside it.

Only the newest attempt counts. Times are of the records, so a run that stands still gets no older between two of them.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from tuitune.bus.envelope import as_number

RECENT = 100  # logs, and seconds of GPU samples, that say how the run goes now
APART = ("evaluating", "saving", "paused")  # states that are no training


@dataclass(frozen=True)
class Parts:
    """One log's `parts`: means a step, in milliseconds and tokens (tuitune.trainer.step_parts)."""

    steps: int
    wall_ms: float
    data_ms: float
    behind_ms: float | None
    places: float | None
    padding: float | None


@dataclass(frozen=True)
class Card:
    """One sample of the run's cards: mean utilisation in per cent, the reasons that hold clocks down, the slowest SM clock in MHz, watts of
    the power limit."""

    util: float | None
    reasons: frozenset[str]
    clock: float | None
    limit: float | None


@dataclass
class Tally:
    """`seconds`: by state since the training began. `evaluations` and `answers`: seconds of the state "evaluating" that were evaluations,
    and answers to prompts or probes; `times`: how often "eval" and "save" came. `set`: what commands have changed, by key of `training`."""

    attempt: int = 0
    state: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    evaluations: float = 0.0
    answers: float = 0.0
    times: dict[str, int] = field(default_factory=dict)
    parts: deque[Parts] = field(default_factory=lambda: deque(maxlen=RECENT))
    logs: int = 0
    cards: deque[Card] = field(default_factory=lambda: deque(maxlen=RECENT))
    work: Mapping[str, Any] = field(default_factory=dict)
    world: int = 1
    card_names: tuple[str, ...] = ()
    memory: tuple[float, float] | None = None  # bytes: this process's highest and the card's
    scored: float | None = None  # share of the tokens that count for the loss
    length: float | None = None  # tokens of a row on average; None where rows are packed
    max_steps: int | None = None
    takes: frozenset[str] = frozenset()  # commands that change something while it trains: "reshape", keys of `set`
    set: dict[str, Any] = field(default_factory=dict)
    _uuids: tuple[str, ...] = ()
    _since: float | None = None
    _evaluating: float = 0.0  # seconds of which it is not known yet whether they were an evaluation
    _total: float | None = None

    def take(self, record: Mapping[str, Any]) -> None:
        """One record of any kind and shape; what says nothing about the pace is passed over."""
        kind, time = record.get("ev"), as_number(record.get("t"))
        source = record.get("src") or "trainer-1"
        if kind == "gpu" and source in ("hub", "trainer-1"):
            self._take_cards(record)
        if not isinstance(source, str) or not source.startswith("trainer-") or time is None or not isfinite(time):
            return
        attempt = int(source[8:]) if source[8:].isdecimal() and len(source) < 17 else 0
        if attempt < self.attempt:
            return
        if attempt > self.attempt:
            vars(self).update(vars(Tally(attempt)))
        self._pass(time)
        if kind == "state" and isinstance(record.get("s"), str):
            self._enter(record["s"])
        elif kind == "eval":
            self.evaluations, self._evaluating = self.evaluations + self._evaluating, 0.0
            self.times["eval"] = self.times.get("eval", 0) + 1
        elif kind == "metrics":
            self._settle()
            self._take_parts(record)
        elif kind == "hello":
            self._take_hello(record)
        elif kind == "data":
            self._take_data(record)
        elif kind == "applied" and record.get("ok"):
            self._take_change(record)

    @property
    def total(self) -> float:
        """Seconds since the training began, of which shares are shares."""
        return sum(self.seconds.values())

    def steady(self) -> list[Parts]:
        """The recent logs without the first, in which kernels are loaded and caches are empty."""
        return list(self.parts)[1 if self.logs == len(self.parts) and self.logs > 1 else 0 :]

    def _pass(self, time: float) -> None:
        """The time since the last record belongs to the present state."""
        if self._since is not None and time > self._since and (self.state == "running" or self.state in APART) and self.seconds:
            self.seconds[self.state] = self.seconds.get(self.state, 0.0) + time - self._since
            if self.state == "evaluating":
                self._evaluating += time - self._since
        self._since = time if self._since is None else max(time, self._since)

    def _enter(self, state: str) -> None:
        if state == "running" and not self.seconds:
            self.seconds["running"] = 0.0  # what was evaluated before the first step counts with the loading
        if state == "evaluating":
            self._settle()
        if state == "saving" and self.state != "saving":
            self.times["save"] = self.times.get("save", 0) + 1
        self.state = state

    def _settle(self) -> None:
        """An evaluation tells its figures when it has ended; what did not by now was none."""
        self.answers, self._evaluating = self.answers + self._evaluating, 0.0

    def _take_parts(self, record: Mapping[str, Any]) -> None:
        peaks = record.get("mem")
        peak = as_number(peaks.get("peak_reserved")) if isinstance(peaks, Mapping) else None
        if peak is not None and self._total is not None:
            self.memory = peak, self._total
        last = record.get("max_steps")
        self.max_steps = last if isinstance(last, int) and last > 0 else self.max_steps
        parts = record.get("parts")
        if not isinstance(parts, Mapping):
            return
        number = {name: as_number(parts.get(name)) for name in parts}
        steps, wall, data = number.get("steps"), number.get("wall_ms"), number.get("data_ms")
        if steps is None or wall is None or data is None or not (steps >= 1 and wall > 0 and 0 <= data <= wall):
            return
        self.logs += 1
        self.parts.append(
            Parts(int(steps), wall, data, number.get("gpu_behind_ms"), number.get("tokens_computed"), number.get("padding_share"))
        )

    def _take_hello(self, record: Mapping[str, Any]) -> None:
        devices = [one for one in record.get("devices") or () if isinstance(one, Mapping)] if _is_list(record.get("devices")) else []
        self.card_names = tuple(str(one.get("name")) for one in devices)
        self._uuids = tuple(_plain(one.get("uuid")) for one in devices)
        work, world = record.get("work"), record.get("world")
        self.work = work if isinstance(work, Mapping) else {}
        self.world = world if isinstance(world, int) and world > 0 else 1
        caps = [one for one in record.get("caps") or () if isinstance(one, Mapping)] if _is_list(record.get("caps")) else []
        keys = [key for one in caps if one.get("name") == "set" and _is_list(one.get("keys")) for key in one["keys"]]
        self.takes = frozenset(str(one.get("name")) for one in (*caps, *keys) if isinstance(one, Mapping))

    def _take_data(self, record: Mapping[str, Any]) -> None:
        tokens, scored, rows = (as_number(record.get(name)) for name in ("tokens", "trained_tokens", "rows"))
        if tokens and rows:
            self.length = tokens / rows
            self.scored = min(1.0, scored / tokens) if scored else None

    def _take_change(self, record: Mapping[str, Any]) -> None:
        if record.get("op") == "set" and isinstance(record.get("key"), str):
            self.set[record["key"]] = record.get("new")
        elif record.get("op") == "reshape" and isinstance(record.get("new"), Mapping):
            self.set.update(record["new"])
            self.parts.clear()
            self.logs = 0

    def _take_cards(self, record: Mapping[str, Any]) -> None:
        """While it trains: of an evaluation or a pause the cards' figures say nothing about a step."""
        devices = record.get("devices")
        if self.state != "running" or not self._uuids or not _is_list(devices):
            return
        ours = [one for one in devices or () if isinstance(one, Mapping) and _plain(one.get("uuid")) in self._uuids]
        if not ours:
            return
        utils, clocks, totals, limits = (
            [_known(one.get(name)) for one in ours] for name in ("util", "sm_clock", "mem_total", "power_limit")
        )
        reasons = frozenset(str(word) for one in ours if _is_list(one.get("reasons")) for word in one["reasons"])
        self._total = min((total for total in totals if total is not None), default=None)
        known = [util for util in utils if util is not None]
        self.cards.append(
            Card(
                sum(known) / len(known) if known else None,
                reasons,
                min((clock for clock in clocks if clock is not None), default=None),
                min((limit for limit in limits if limit is not None), default=None),
            )
        )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _known(value: Any) -> float | None:
    number = as_number(value)
    return number if number is not None and isfinite(number) else None


def _plain(uuid: Any) -> str:
    return str(uuid).lower().removeprefix("gpu-")
