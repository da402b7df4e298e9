"""A run's proof of its longest batch as the journal tells it: plan against measured, phase by phase. Imports nothing of Textual.

Records may be of a newer version, half filled or garbage: what is understood is taken, and nothing raises.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuitune.bus.envelope import as_number
from tuitune.workbench import figures
from tuitune.workbench.gpu_reading import word

OFF = 5.0  # per cent that a plan may be off
MAX_ROWS = 16


@dataclass(frozen=True)
class Compared:
    """One figure in bytes by the plan and as it was measured; None = not known."""

    name: str
    planned: float | None = None
    measured: float | None = None

    @property
    def difference(self) -> float | None:
        """How far the measured figure is off, in per cent of the planned one."""
        return difference(self.measured, self.planned)


@dataclass(frozen=True)
class ProofReading:
    """`rows` and `length` of the batch in rows and tokens; `no_plan` and `not_measured`: why, "" when there is one; `calibrated`: by how
    many runs of this box the plan was."""

    rows: int | None
    length: int | None
    seconds: float | None
    allocated: Compared
    process: Compared
    phases: tuple[Compared, ...]
    components: tuple[Compared, ...]
    no_plan: str
    not_measured: str
    calibrated: int

    @property
    def sentence(self) -> str:
        """The proof in one line, for the events."""
        batch = f"{self.rows} × {self.length:,} tokens" if self.rows is not None and self.length is not None else "the longest batch"
        text = f"proof: {batch} went through a step"
        if self.allocated.measured is not None:
            text += f", {figures.size(self.allocated.measured)} allocated"
            text += f", planned {figures.size(self.allocated.planned)}" if self.allocated.planned is not None else ""
            text += f" ({per_cent(self.allocated.difference)})" if self.allocated.difference is not None else ""
        elif self.not_measured:
            text += f"; {self.not_measured}"
        if self.no_plan and self.allocated.measured is not None:
            text += f"; no plan: {self.no_plan}"
        return text


def read_proof(fields: Mapping[str, Any]) -> ProofReading:
    """The proof in `fields`; anything of a wrong type counts as not there. Never raises."""
    batch = fields.get("batch")
    batch = batch if isinstance(batch, Mapping) else {}
    return ProofReading(
        rows=_count(batch.get("rows")),
        length=_count(batch.get("length")),
        seconds=_size(fields.get("seconds")),
        allocated=_compared("allocated", fields.get("allocated")),
        process=_compared("process", fields.get("process")),
        phases=_rows(fields.get("phases"), "phase"),
        components=_rows(fields.get("components"), "name"),
        no_plan=word(fields.get("plan"), limit=300),
        not_measured=word(fields.get("measured"), limit=300),
        calibrated=_count(fields.get("calibrated")) or 0,
    )


def difference(measured: float | None, planned: float | None) -> float | None:
    """Per cent of the plan by which a measured figure is above (+) or below it (-)."""
    return None if measured is None or not planned else 100 * (measured / planned - 1)


def per_cent(value: float | None) -> str:
    """A difference with its sign: "+5.0 %"."""
    return figures.UNKNOWN if value is None else f"{value:+.1f} %"


def _rows(value: Any, key: str) -> tuple[Compared, ...]:
    entries = value[:MAX_ROWS] if isinstance(value, list) else []
    return tuple(_compared(name, entry) for entry in entries if isinstance(entry, Mapping) and (name := word(entry.get(key), limit=40)))


def _compared(name: str, value: Any) -> Compared:
    entry = value if isinstance(value, Mapping) else {}
    return Compared(name, _size(entry.get("planned")), _size(entry.get("measured")))


def _size(value: Any) -> float | None:
    found = None if isinstance(value, bool) else as_number(value)
    return found if found is not None and math.isfinite(found) and 0 <= found < 1e18 else None


def _count(value: Any) -> int | None:
    found = _size(value)
    return None if found is None else int(found)
