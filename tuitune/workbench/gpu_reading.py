"""One look at the GPUs, as the journal's `gpu` event or GpuSampler.sample() give it, turned into plain data that cannot surprise.

A value that the driver does not give is None. Imports nothing of Textual and no NVML.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuitune.bus.envelope import as_number
from tuitune.text import printable

MAX_DEVICES = 64


@dataclass(frozen=True)
class OtherProcess:
    """Somebody else's process on a GPU; `memory` in bytes, None when the driver hides it."""

    pid: int
    user: str
    name: str
    memory: float | None


@dataclass(frozen=True)
class GpuReading:
    """One GPU at one moment: memory in bytes, util in %, power in W, temperature in °C, clocks in MHz."""

    index: int
    uuid: str
    name: str
    util: float | None = None
    used: float | None = None
    total: float | None = None
    process: float | None = None
    power: float | None = None
    power_limit: float | None = None
    temperature: float | None = None
    sm_clock: float | None = None
    memory_clock: float | None = None
    ecc: float | None = None
    reasons: tuple[str, ...] = ()
    others: tuple[OtherProcess, ...] = ()

    @property
    def key(self) -> str:
        """What identifies the card across samples: its UUID, else its index."""
        return self.uuid or f"#{self.index}"


@dataclass(frozen=True)
class GpuSample:
    """All GPUs of the box at one moment; `error` is the one sentence to show when there are none to read."""

    devices: tuple[GpuReading, ...] = ()
    driver: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class HostReading:
    """The box: cpu in %, everything else in bytes."""

    cpu: float | None = None
    ram_used: float | None = None
    ram_total: float | None = None
    tree_rss: float | None = None
    disk_free: float | None = None


NOT_LOOKED = GpuSample()
NO_HOST = HostReading()
_NUMBERS = {
    "util": "util",
    "used": "mem_used",
    "total": "mem_total",
    "process": "proc_mem",
    "power": "power",
    "power_limit": "power_limit",
    "temperature": "temp",
    "sm_clock": "sm_clock",
    "memory_clock": "mem_clock",
    "ecc": "ecc",
}


def read_sample(fields: Mapping[str, Any]) -> GpuSample:
    """The sample in `fields`; anything of a wrong type counts as not there. Never raises."""
    devices = fields.get("devices")
    found = [reading for position, entry in enumerate(_items(devices)[:MAX_DEVICES]) if (reading := _device(entry, position))]
    return GpuSample(tuple(found), word(fields.get("driver")) or None, word(fields.get("error"), limit=300) or None)


def read_host(fields: Mapping[str, Any]) -> HostReading:
    """The host figures in `fields`. Never raises."""
    return HostReading(*(as_number(fields.get(name)) for name in ("cpu", "ram_used", "ram_total", "tree_rss", "disk_free")))


def word(value: Any, limit: int = 80) -> str:
    """A short foreign text made safe to show; anything that is not text is empty."""
    return printable(value, limit=limit) if isinstance(value, str) else ""


def _device(entry: Any, position: int) -> GpuReading | None:
    if not isinstance(entry, Mapping):
        return None
    index = as_number(entry.get("index"))
    numbers = {name: as_number(entry.get(key)) for name, key in _NUMBERS.items()}
    return GpuReading(
        index=int(index) if index is not None and 0 <= index < 10_000 else position,
        uuid=word(entry.get("uuid")),
        name=word(entry.get("name")) or "GPU",
        reasons=tuple(text for reason in _items(entry.get("reasons"))[:8] if (text := word(reason))),
        others=tuple(process for other in _items(entry.get("others"))[:32] if (process := _other(other))),
        **numbers,
    )


def _other(entry: Any) -> OtherProcess | None:
    if not isinstance(entry, Mapping):
        return None
    pid = as_number(entry.get("pid"))
    return OtherProcess(
        pid=int(pid) if pid is not None and abs(pid) < 1e12 else 0,
        user=word(entry.get("user")) or "?",
        name=word(entry.get("name")) or "?",
        memory=as_number(entry.get("mem")),
    )


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
