"""What the GPUs of this box do right now, for the GPU panel and the status bar.

While a run lives and its dashboard is open the figures come from its journal (`offer`); otherwise a thread asks NVML at 1 Hz, and
only while somebody looks (`watch`). Imports nothing of Textual; NVML is loaded inside the thread.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from tuitune.workbench import figures
from tuitune.workbench.gpu_reading import NO_GPU, NO_HOST, GpuSample, HostReading, read_host, read_sample

PERIOD, STALE = 1.0, 5.0  # seconds between own samples; and after which a run's last sample counts as old


@dataclass(frozen=True)
class TorchFigures:
    """torch's own figures for one GPU in bytes, as the newest step told them."""

    reserved: float | None = None
    allocated: float | None = None


@dataclass(frozen=True)
class GpuNow:
    """One moment of the box; `torch` holds the run's own figures by position among the run's GPUs, `run` its name."""

    sample: GpuSample = NO_GPU
    host: HostReading = NO_HOST
    run: str = ""
    torch: dict[str, TorchFigures] = field(default_factory=dict)  # GpuReading.key → figures

    @property
    def summary(self) -> str:
        """A few words for the status bar: "GPU 21.3/140 GiB" (of the fullest card), or "CPU" where there is no GPU."""
        if not self.sample.devices:
            return "CPU" if self.sample.error else ""
        fullest = max(self.sample.devices, key=lambda device: (device.used or 0) / (device.total or 1))
        count = f"{len(self.sample.devices)}×GPU" if len(self.sample.devices) > 1 else "GPU"
        return f"{count} {figures.gib(fullest.used)}/{figures.gib(fullest.total)} GiB"


class GpuFeed:
    """The newest figures in `now`; whoever shows them listens."""

    def __init__(self, disk: Path | None = None) -> None:
        self.now = GpuNow()
        self._disk = disk or Path.cwd()  # whose free space is told
        self._listeners: tuple[Callable[[], object], ...] = ()
        self._offered = -STALE
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def summary(self) -> str:
        """See GpuNow.summary."""
        return self.now.summary

    @property
    def watching(self) -> bool:
        """Whether somebody looks."""
        return self._stop is not None

    def listen(self, changed: Callable[[], object]) -> None:
        """Have `changed` called, from any thread, when `now` is new; it must be thread-safe (post a message)."""
        self._listeners = (*self._listeners, changed)

    def unlisten(self, changed: Callable[[], object]) -> None:
        """Undo `listen`."""
        self._listeners = tuple(listener for listener in self._listeners if listener != changed)

    def watch(self) -> None:
        """Start sampling (again); call it when the panel becomes visible."""
        if self._stop is None:
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._sample, args=(self._stop,), name="gpu-feed", daemon=True)
            self._thread.start()

    def unwatch(self, timeout_s: float = 2.0) -> None:
        """Stop sampling; call it when the panel is hidden and when the app ends."""
        if self._stop is not None and self._thread is not None:
            self._stop.set()
            if self._thread is not threading.current_thread():
                self._thread.join(timeout_s)
            self._stop = self._thread = None

    def offer(self, now: GpuNow) -> None:
        """Figures of a living run's journal: they know the run's share, so own sampling rests while they keep coming."""
        self._offered = monotonic()
        self._set(now)

    def _sample(self, stop: threading.Event) -> None:
        from tuitune.hub.gpu import GpuSampler
        from tuitune.hub.host import HostSampler

        gpus, host = GpuSampler(), HostSampler(self._disk)
        while not stop.wait(PERIOD if self.now.sample is not NO_GPU else 0.1):  # the CPU figure needs a moment
            if monotonic() - self._offered > STALE:
                self._set(GpuNow(read_sample(gpus.sample()), read_host(host.sample())))
        gpus.close()

    def _set(self, now: GpuNow) -> None:
        if now != self.now:
            self.now = now
            for listener in self._listeners:
                listener()
