"""Why a trainer ended: its exit status and the end of its log, turned into a class, a sentence and a remedy (run-control.md 3.3)."""

import re
import signal
from dataclasses import dataclass
from pathlib import Path

HINTS = {
    "gpu_oom": "the GPU ran out of memory: halve per_device_train_batch_size and double gradient_accumulation_steps, or shorten max_length",
    "host_oom": "the kernel killed {who} because RAM ran out: fewer dataloader workers, less data, or a box with more RAM",
    "no_memory": "RAM ran out inside {who}: a smaller batch, a smaller model or a box with more RAM",
    "shared_memory": "/dev/shm is too small for the dataloader workers: dataloader_num_workers: 0, or a container with a larger --shm-size",
    "killed": "somebody or something killed {who} (signal 9): checkpoints written so far are whole: resume the run",
    "terminated": "{who} was told to end ({signal}) before it could save: checkpoints written so far are whole",
    "cuda_fault": "a CUDA kernel failed and took the process with it: resume the run; if it is the same step, look at the data there",
    "nccl": "the GPUs lost contact with each other (NCCL): look at the log of the rank that died first",
    "native_crash": "native code crashed ({signal}); the stack of the moment is in the log, and the last library in it is the suspect",
    "disk_full": "the disk is full: make room (old checkpoints are the usual find), then resume the run",
    "vanished": "{who} ended without a word, its exit status lost with the hub that had started it: killed, or a native crash",
    "error": "{who} stopped with an error: {last}",
}

_PATTERNS = (
    ("gpu_oom", r"OutOfMemoryError|CUDA (error: )?out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|[Oo]ut of memory at line"),
    ("disk_full", r"No space left on device|Disk quota exceeded|\[Errno (28|122)\]"),
    ("shared_memory", r"Bus error.*shared memory|unable to (open|write to|allocate) .*shared memory|insufficient shared memory"),
    ("nccl", r"ProcessGroupNCCL|NCCL error|ncclSystemError|ncclRemoteError|ncclInternalError"),
    ("cuda_fault", r"device-side assert|illegal memory access|CUDA error|CUDA_ERROR_|unspecified launch failure"),
    ("no_memory", r"^MemoryError|can't allocate memory|Cannot allocate memory|std::bad_alloc"),
)
_TRACEBACKS = ("Traceback (most recent call last):", "Fatal Python error:")  # Python's own, and faulthandler's of a native crash
MAX_TRACEBACK = 60  # lines
MAX_TEXT = 16 << 10  # bytes of a crash record's longest field: a record has to stay below 64 KiB


@dataclass(frozen=True)
class Fault:
    """What the crash event carries. `kind` is stable; `signal` is set when a signal ended the trainer, `rank` when it has several processes
    and this one failed first."""

    kind: str
    hint: str
    signal: str | None = None
    traceback: str | None = None
    rank: int | None = None


def classify(
    returncode: int | None,
    log_tail: str,
    oom_kills: int = 0,
    *,
    error: str | None = None,
    killed_by: str | None = None,
    who: str = "the trainer",
) -> Fault:
    """The fault behind a trainer that did not end well.

    returncode: as subprocess has it (negative = signal), None when nobody could learn it. log_tail: the last lines it printed.
    oom_kills: how often the kernel's OOM killer struck on this box while it ran. error: the sentence of its own `end` event, when it got
    to say one. killed_by: who sent the command `kill`. who: in the sentence.
    """
    name = _signal_name(returncode)
    if error:
        return Fault("user_error", error, name)
    if killed_by and returncode in (-signal.SIGKILL, None):
        return Fault("killed", f"killed as {killed_by} asked: what was learnt since the last checkpoint is gone", name)
    traceback = last_traceback(log_tail)
    by_signal = returncode is not None and returncode < 0
    kind = _kind(returncode, (None if by_signal else traceback) or log_tail, oom_kills)
    last = next((line.strip() for line in reversed((traceback or log_tail).splitlines()) if line.strip()), "it said nothing")
    status = name or ("exit status unknown" if returncode is None else f"exit code {returncode}")
    return Fault(kind, HINTS[kind].format(who=who, signal=status, last=last[:300]), name, traceback)


def _kind(returncode: int | None, text: str, oom_kills: int) -> str:
    if returncode == -signal.SIGKILL:
        return "host_oom" if oom_kills > 0 else "killed"
    if returncode in (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
        return "terminated"
    if oom_kills > 0 and "killed by signal: Killed" in text:
        return "host_oom"  # a dataloader worker was the kernel's victim, and the trainer went down with it
    by_log = next((kind for kind, pattern in _PATTERNS if re.search(pattern, text, re.MULTILINE)), None)
    if by_log is not None:
        return by_log
    if returncode is not None:
        return "native_crash" if returncode < 0 else "error"
    if _TRACEBACKS[1] in text:
        return "native_crash"
    return "error" if _TRACEBACKS[0] in text else "host_oom" if oom_kills > 0 else "vanished"


def _signal_name(returncode: int | None) -> str | None:
    try:
        return signal.Signals(-returncode).name if returncode is not None and returncode < 0 else None
    except ValueError:
        return f"signal {abs(returncode or 0)}"


def last_traceback(text: str) -> str | None:
    """The last traceback in a log (Python's, or what faulthandler wrote of a native crash), at most 60 lines of its end."""
    start = max(text.rfind(head) for head in _TRACEBACKS)
    return cut("\n".join(text[start:].splitlines()[-MAX_TRACEBACK:])) if start >= 0 else None


def cut(text: str) -> str:
    """The end of a long text, as much as a crash record takes."""
    return text.encode()[-MAX_TEXT:].decode("utf-8", "ignore")


def oom_kills() -> int:
    """How often the kernel's OOM killer has struck on this box (and in this cgroup) since the box started."""
    return _counter(Path("/proc/vmstat"), "oom_kill") + _counter(_memory_events(), "oom_kill")


def _memory_events() -> Path:
    """This process's own cgroup (v2): a container's or a SLURM job's limit counts there."""
    try:
        own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
    except OSError:
        own = ""
    path = Path("/sys/fs/cgroup") / own / "memory.events"
    return path if path.exists() else Path("/sys/fs/cgroup/memory.events")


def _counter(path: Path, name: str) -> int:
    try:
        words = (line.split() for line in path.read_text().splitlines())
        return next((int(word[1]) for word in words if len(word) == 2 and word[0] == name), 0)
    except (OSError, ValueError):
        return 0
