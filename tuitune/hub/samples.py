"""The hub's figures of the box, once a second, in a thread of their own: what they cost or break reaches nothing else."""

import threading
from pathlib import Path
from typing import Any

from tuitune.bus.journal import Journal
from tuitune.hub.gpu import GpuSampler
from tuitune.hub.host import HostSampler
from tuitune.hub.logout import threat

SAMPLE_EVERY_S = 1.0


class Samples:
    """`tree_of` is the pid of the trainer whose process tree counts as ours; None while there is none."""

    def __init__(self, journal: Journal, disk: Path) -> None:
        self.tree_of: int | None = None
        self.host: dict[str, Any] | None = None
        """The last `host` sample."""
        self._journal = journal
        self._disk = disk
        self._ending = threading.Event()

    def start(self) -> None:
        """Begin to sample, in a daemon thread."""
        threading.Thread(target=self._run, name="tuitune-samples", daemon=True).start()

    def stop(self) -> None:
        """No more samples, a second from now at the latest."""
        self._ending.set()

    def _run(self) -> None:
        if text := threat():
            self._journal.emit("warning", text=text)
        gpu, seen = GpuSampler(), False
        try:
            host = HostSampler(self._disk)
            while True:
                gpu.tree_of = host.tree_of = self.tree_of
                sample = gpu.sample()
                if sample["devices"] or not seen:  # a box without GPUs has said so once
                    self._journal.emit("gpu", **sample)
                if seen:  # the first look at the CPU has nothing to compare with
                    self.host = host.sample()
                    self._journal.emit("host", **self.host)
                seen = True
                if self._ending.wait(SAMPLE_EVERY_S):
                    break
        except Exception as error:  # the figures end, the run does not, and it says so
            self._journal.emit("warning", text=f"no more figures of GPUs and host: {type(error).__name__}: {error}")
        gpu.close()
