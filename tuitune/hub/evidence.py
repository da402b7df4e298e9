"""What the box adds to the sentence about a fault: the RAM at its death, what fills the disk, where native code was, the driver's word."""

import os
import re
from collections.abc import Mapping
from io import RawIOBase
from pathlib import Path
from typing import Any

from tuitune.hub.faults import Fault
from tuitune.runs.checkpoints import checkpoints_of
from tuitune.runs.directory import RunDirectory
from tuitune.text import printable

GIB = 1 << 30
KERNEL_LOG = Path("/dev/kmsg")
_FRAME = re.compile(r'most recent call first\):\n\s*File "([^"]+)", line (\d+) in (\S+)')
_XID = re.compile(r"NVRM: (Xid \([^)]*\): .*)")


def evidence(fault: Fault, run: RunDirectory, host: Mapping[str, Any] | None, since_s: float) -> str:
    """A few words in parentheses, with a blank before them, or nothing.

    host: the last `host` sample before the death. since_s: when the trainer was started, in seconds of the monotonic clock.
    """
    found: list[str] = []
    if fault.kind in ("host_oom", "no_memory"):
        found.append(_ram(host or {}))
    if fault.kind == "disk_full":
        found.append(_checkpoints(run))
    if fault.kind == "native_crash":
        found.append(_place(fault.traceback or ""))
    if fault.kind in ("native_crash", "cuda_fault", "nccl"):
        found.append(_driver(since_s))
    words = "; ".join(word for word in found if word)
    return f" ({words})" if words else ""


def _ram(host: Mapping[str, Any]) -> str:
    used, total, own = (value / GIB if isinstance(value := host.get(key), int) else None for key in ("ram_used", "ram_total", "tree_rss"))
    if used is None or total is None:
        return ""
    return f"{used:.1f} of {total:.1f} GiB were in use" + (f", {own:.1f} by this run" if own is not None else "")


def _checkpoints(run: RunDirectory) -> str:
    try:
        folders = checkpoints_of(run)
        size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    except OSError:
        return ""
    return f"{len(folders)} checkpoints of this run take {size / GIB:.1f} GiB, in {run.checkpoints}" if folders else ""


def _place(stack: str) -> str:
    """Where Python was when native code crashed, by faulthandler's text: the innermost frame, its file from the package on."""
    frame = _FRAME.search(stack)
    if frame is None:
        return ""
    file = re.sub(r".*/(?:site-packages|dist-packages|python3\.\d+)/", "", frame[1])
    return printable(f"in {frame[3]}, {file}:{frame[2]}", limit=200)


def _driver(since_s: float) -> str:
    """The driver's last error (Xid) since then, where the kernel's log may be read."""
    last = ""
    for stamp, message in _kernel_log():
        if stamp >= since_s and (found := _XID.search(message)):
            last = found[1].strip()
    return printable(f"the driver says: {last}", limit=200) if last else ""


def _kernel_log() -> list[tuple[float, str]]:
    """(seconds since the box started, message), oldest first; nothing where it may not be read."""
    found = []
    try:
        log = os.open(KERNEL_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    with os.fdopen(log, "rb", buffering=0) as file:
        while record := _next(file):
            for line in record.decode(errors="replace").splitlines():
                head, _, message = line.partition(";")
                fields = head.split(",")
                if len(fields) >= 3 and fields[2].isdecimal():
                    found.append((int(fields[2]) / 1e6, message))
    return found


def _next(log: RawIOBase) -> bytes | None:
    """The next record, one a read; None after the last one."""
    while True:
        try:
            return log.read(8192)
        except BrokenPipeError:
            continue  # the kernel has overwritten what would have been next
        except OSError:
            return None
