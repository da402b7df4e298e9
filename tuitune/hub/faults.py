"""Why a trainer ended: its exit status and the end of its log, turned into a class, a sentence and a remedy (run-control.md 3.3)."""

import re
import signal
from dataclasses import dataclass

HINTS = {
    "gpu_oom": "the GPU ran out of memory: halve per_device_train_batch_size and double gradient_accumulation_steps, or shorten max_length",
    "host_oom": "the kernel killed the trainer because RAM ran out: fewer dataloader workers, less data, or a box with more RAM",
    "killed": "somebody or something killed the trainer (signal 9): checkpoints written so far are whole; see who else works on this box",
    "terminated": "the trainer was told to end (signal 15) before it could save",
    "cuda_fault": "a CUDA kernel failed and took the process with it: start again; if it is the same step, look at the data there",
    "nccl": "the GPUs lost contact with each other (NCCL): look at the log of the rank that died first",
    "native_crash": "native code crashed; the stack of the moment is in the log, and the last library in it is the suspect",
    "disk_full": "the disk is full: make room (old checkpoints are the usual find), then start the run again",
    "divergence": "loss or gradient is no number any more: a lower learning rate or gradient clipping, from the last good checkpoint",
    "no_memory": "RAM ran out inside the trainer: a smaller batch of data, or a box with more RAM",
    "error": "the trainer stopped with an error of its own; its last lines are below",
}

_PATTERNS = (
    ("gpu_oom", r"OutOfMemoryError|CUDA out of memory|CUBLAS_STATUS_ALLOC_FAILED"),
    ("disk_full", r"No space left on device|\[Errno 28\]|Disk quota exceeded"),
    ("nccl", r"ProcessGroupNCCL|NCCL error|ncclSystemError|ncclRemoteError"),
    ("cuda_fault", r"device-side assert|illegal memory access|CUDA error|unspecified launch failure"),
    ("no_memory", r"^MemoryError|DefaultCPUAllocator: can't allocate memory"),
)


@dataclass(frozen=True)
class Fault:
    """What the crash event carries. `kind` is stable; `signal` is set when a signal ended the trainer."""

    kind: str
    hint: str
    signal: str | None = None
    traceback: str | None = None


def classify(returncode: int, log_tail: str, oom_kills: int, error: str | None = None) -> Fault:
    """The fault behind a trainer that did not end well.

    returncode: as subprocess has it (negative = signal). log_tail: the last lines it printed. oom_kills: how often the kernel's OOM
    killer struck on this box while it ran. error: the sentence of its own `end` event, when it got to say one.
    """
    name = signal.Signals(-returncode).name if returncode < 0 and -returncode in {item.value for item in signal.Signals} else None
    traceback = last_traceback(log_tail)
    if error:
        return Fault("user_error", error, name)
    if returncode == -signal.SIGKILL:
        kind = "host_oom" if oom_kills > 0 else "killed"
    elif returncode == -signal.SIGTERM:
        kind = "terminated"
    else:
        kind = _by_log(traceback or log_tail) or (
            "native_crash" if returncode in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS) else "error"
        )
    return Fault(kind, HINTS[kind], name, traceback)


def _by_log(text: str) -> str | None:
    return next((kind for kind, pattern in _PATTERNS if re.search(pattern, text, re.MULTILINE)), None)


def last_traceback(text: str) -> str | None:
    """The last Python traceback in a log, at most 60 lines of its end."""
    start = text.rfind("Traceback (most recent call last):")
    return "\n".join(text[start:].splitlines()[-60:]) if start >= 0 else None


def oom_kills() -> int:
    """How often the kernel's OOM killer has struck on this box (and in this cgroup) since the box started."""
    return _counter("/proc/vmstat", "oom_kill") + _counter("/sys/fs/cgroup/memory.events", "oom_kill")


def _counter(path: str, name: str) -> int:
    try:
        with open(path) as file:
            return next((int(line.split()[1]) for line in file if line.split()[:1] == [name]), 0)
    except OSError:
        return 0
