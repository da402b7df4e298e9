"""Memory of the host: what is free of it for this process, and how much more a piece of work takes at its peak."""

import ctypes
import threading
from pathlib import Path
from types import TracebackType

import psutil

EVERY_S = 0.002  # between two looks: a layer's activations live longer than that wherever their size matters
CGROUP = Path("/sys/fs/cgroup")


def free_memory(own: Path = Path("/proc/self/cgroup"), root: Path = CGROUP) -> int:
    """Bytes that can still be had without swapping: of the box, or of this process's cgroup (v2) where that allows less."""
    available = int(psutil.virtual_memory().available)
    try:
        folder = root / own.read_text().rpartition("::")[2].strip().lstrip("/")
        folder = folder if (folder / "memory.max").exists() else root  # a container sees its own cgroup as the root
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return available if limit == "max" else min(available, int(limit) - int(used) + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):  # no cgroup v2, or none with a memory controller
        return available


class Rise:
    """`bytes`: how far the resident memory of this process rose above its beginning within the block. What the C library holds back from
    earlier work is given to the system first, so that it does not hide a part of it."""

    def __init__(self) -> None:
        self.bytes = 0
        self._process = psutil.Process()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="tuitune-host-memory", daemon=True)

    def __enter__(self) -> "Rise":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim is not None:
            trim(0)
        self._before = self._process.memory_info().rss
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.bytes = max(self.bytes, self._process.memory_info().rss - self._before)
            if self._over.wait(EVERY_S):
                return
