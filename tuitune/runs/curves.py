"""The figures of a run over its steps, read from its journals: what comparing runs and their summaries need."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuitune.bus.envelope import as_number
from tuitune.bus.journal import JournalTail

# of a metrics record: what is no metric
ENVELOPE = frozenset({"v", "n", "t", "ev", "src", "step", "max_steps", "attempt", "mem", "rank", "metrics", "proto", "ok", "pid"})
MAX_METRICS = 400  # by name; a trainer that invents names without end must not fill the memory


@dataclass
class Curve:
    """Steps in ascending order and a value for each; values may be nan or infinite."""

    steps: "array[float]" = field(default_factory=lambda: array("d"))
    values: "array[float]" = field(default_factory=lambda: array("d"))

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self.values[-1] if self.values else None

    def cut(self, step: float) -> None:
        """Forget this step and what lies beyond: it was trained again."""
        while self.steps and self.steps[-1] >= step:
            self.steps.pop()
            self.values.pop()

    def add(self, step: float, value: float) -> None:
        """Take the value at a step."""
        self.cut(step)
        self.steps.append(step)
        self.values.append(value)


def read_curves(journal: Path) -> dict[str, Curve]:
    """Every metric of a run's journal folder by name, later attempts over the steps that they trained again."""
    curves: dict[str, Curve] = {}
    for attempt in sorted(_attempts(journal)):
        tail, first = JournalTail(journal, only=f"trainer-{attempt}"), True
        while records := tail.poll():
            for record in records:
                step = as_number(record.get("step"))
                if record.get("ev") not in ("metrics", "eval") or step is None:
                    continue
                if first:  # metrics that this attempt logs less often must not keep the older one's points
                    first = False
                    for curve in curves.values():
                        curve.cut(step)
                _take(curves, step, record)
    return curves


def _attempts(journal: Path) -> set[int]:
    names = (path.stem.removeprefix("trainer-") for path in journal.glob("trainer-*.jsonl"))
    return {int(name) for name in names if name.isdecimal()}


def _take(curves: dict[str, Curve], step: float, record: Mapping[str, Any]) -> None:
    nested = record.get("metrics")
    for name, raw in (nested if isinstance(nested, Mapping) else record).items():
        value = None if name in ENVELOPE or isinstance(raw, bool) else as_number(raw)
        if value is not None and (name in curves or len(curves) < MAX_METRICS):
            curves.setdefault(name, Curve()).add(step, value)
