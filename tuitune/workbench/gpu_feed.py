"""What the GPUs of this box do right now, for the GPU panel and the status bar.

While a run of ours lives on this box its hub samples already, and knows which processes are ours: its figures are shown, given by the
open dashboard (`offer`) or read from its journal (`follow`). Otherwise a thread asks NVML at 1 Hz. It all happens only while somebody
looks (`watch`). Imports nothing of Textual; NVML is loaded inside the thread.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from tuitune.text import printable
from tuitune.workbench import figures
from tuitune.workbench.gpu_reading import NO_HOST, NOT_LOOKED, GpuSample, HostReading, read_host, read_sample

if TYPE_CHECKING:
    from tuitune.workbench.hub_figures import HubFigures

PERIOD, STALE = 1.0, 5.0  # seconds between own samples; and after which a run's last sample counts as old


@dataclass(frozen=True)
class TorchFigures:
    """torch's own figures for one GPU in bytes, as the newest step told them."""

    reserved: float | None = None
    allocated: float | None = None


@dataclass(frozen=True)
class GpuNow:
    """One moment of the box; `torch` holds the run's own figures by position among the run's GPUs, `run` its name."""

    sample: GpuSample = NOT_LOOKED
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
        self._runs: tuple[Path, ...] = ()
        self._hub: HubFigures | None = None
        self._stop: threading.Event | None = None

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
            threading.Thread(target=self._sample, args=(self._stop,), name="gpu-feed", daemon=True).start()

    def unwatch(self) -> None:
        """Stop sampling; call it when the panel is hidden and when the app ends. Does not wait for the thread: a driver may hang."""
        if self._stop is not None:
            self._stop.set()
            self._stop = None

    def follow(self, runs: Sequence[Path]) -> None:
        """The living runs, newest first: the first one of this box tells the figures."""
        self._runs = tuple(runs)

    def offer(self, now: GpuNow) -> None:
        """Figures of a living run's journal: they know the run's share, so own sampling rests while they keep coming."""
        self._offered = monotonic()
        self._set(now)

    def _sample(self, stop: threading.Event) -> None:
        try:
            self._sample_until(stop)
        except Exception as error:  # a thread that ended without a word would leave "Looking for GPUs …" standing for ever
            if not stop.is_set():
                why = f"the GPU figures have ended ({type(error).__name__}: {error}): hide and show this panel to try again"
                self._set(GpuNow(GpuSample(error=printable(why, limit=300))))

    def _sample_until(self, stop: threading.Event) -> None:
        from tuitune.hub.gpu import GpuSampler
        from tuitune.hub.host import HostSampler

        gpus, host = GpuSampler(), HostSampler(self._disk)
        while not stop.wait(PERIOD if self.now.sample is not NOT_LOOKED else 0.1):  # the CPU figure needs a moment
            if monotonic() - self._offered > STALE:
                now = self._of_a_hub(stop) or GpuNow(read_sample(gpus.sample()), read_host(host.sample()))
                if not stop.is_set():
                    self._set(now)
        gpus.close()

    def _of_a_hub(self, stop: threading.Event) -> GpuNow | None:
        """What the hub of our newest living run says; None when no run of ours lives here, or its hub has fallen silent."""
        from tuitune.workbench.hub_figures import HubFigures, is_here

        run = next(filter(is_here, self._runs), None)
        if run is None:
            self._hub = None
        elif self._hub is None or self._hub.run != run:
            self._hub = HubFigures(run)
        return self._hub.look(stop, STALE) if self._hub is not None else None

    def _set(self, now: GpuNow) -> None:
        if now != self.now:
            self.now = now
            for listener in self._listeners:
                listener()
