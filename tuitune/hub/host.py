"""One look at the box besides its GPUs: the fields of the `host` event."""

from pathlib import Path
from typing import Any

import psutil


class HostSampler:
    """`sample` gives CPU in per cent of the whole box since the last call; everything else in bytes."""

    def __init__(self, disk: Path, tree_of: int | None = None) -> None:
        self.disk = disk
        self.tree_of = tree_of
        psutil.cpu_percent()  # the first call only sets the starting point

    def sample(self) -> dict[str, Any]:
        """{"cpu", "ram_used", "ram_total", "tree_rss" (the trainer and its children), "disk_free" (where the run is)}."""
        memory = psutil.virtual_memory()
        return {
            "cpu": psutil.cpu_percent(),
            "ram_used": memory.total - memory.available,
            "ram_total": memory.total,
            "tree_rss": self._tree_rss(),
            "disk_free": self._disk_free(),
        }

    def _tree_rss(self) -> int | None:
        if self.tree_of is None:
            return None
        try:
            top = psutil.Process(self.tree_of)
            processes = [top, *top.children(recursive=True)]
        except psutil.Error:
            return None
        total = 0
        for process in processes:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue  # it ended between the two calls
        return total

    def _disk_free(self) -> int | None:
        try:
            return int(psutil.disk_usage(str(self.disk)).free)
        except OSError:
            return None
