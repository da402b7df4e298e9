"""When a chat template does not return: a worker notes in shared memory that a render has begun, and the server ends those that last.

A template may loop for ever in Python or within one C call (`9 ** (9 ** 9)`), so nothing inside the process can be relied on to stop it.
Who notes them is wrapped_renders.py. Imports nothing heavy: the server of the reader is made of the same parts.
"""

import mmap
import os
import struct
import time

LIMIT_S = 2.0  # of work for one render; a real conversation takes some 0.1 ms
PATIENCE_S = 30.0  # until a render is given up that hardly gets to work: a box may be busy, a process may be stopped
SLOTS = 10  # a worker, the processes it forks for its rows (from 1), and one beside it (the last)
_SLOT = struct.Struct("=ddi")  # when the render began by the monotonic clock, 0.0 while there is none; CPU seconds then; whose


class RenderWatch:
    """Shared by a worker, what it forks and the server; made before the fork. One slot a process."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, SLOTS * _SLOT.size)
        self.slot = 0

    def begin(self) -> None:
        """A render starts in this process."""
        _SLOT.pack_into(self._shared, self.slot * _SLOT.size, time.monotonic(), time.process_time(), os.getpid())

    def end(self) -> None:
        """It has returned."""
        _SLOT.pack_into(self._shared, self.slot * _SLOT.size, 0.0, 0.0, 0)

    @property
    def stuck(self) -> bool:
        """Whether any of the processes has worked on one render for longer than LIMIT_S seconds."""
        now = time.monotonic()
        late = [slot for slot in _SLOT.iter_unpack(self._shared[:]) if slot[0] and now - slot[0] > LIMIT_S]
        return any(now - began > PATIENCE_S or _cpu_seconds(pid) - cpu > LIMIT_S - 0.1 for began, cpu, pid in late)

    def close(self) -> None:
        """Give the memory back."""
        self._shared.close()


def _cpu_seconds(pid: int) -> float:
    """Of a process so far; 0.0 when it is gone."""
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


STUCK = (
    f"the chat template did not return within {LIMIT_S:g} s and was ended: it loops on one of these rows, or multiplies without end; "
    "correct tokenizer.chat_template, or take the model's own"
)
