"""Why a trainer died: exit status and log, turned into a class and a sentence with a remedy."""

import signal
from pathlib import Path

import pytest

from tuitune.bus.envelope import encode
from tuitune.bus.journal import MAX_RECORD
from tuitune.hub import faults
from tuitune.hub.faults import HINTS, MAX_TRACEBACK, classify, last_traceback, oom_kills

HEAD = "Traceback (most recent call last):\n"
FRAME = '  File "train.py", line 3, in step\n    loss.backward()\n'


def traceback(*last: str) -> str:
    return HEAD + FRAME + "\n".join(last)


TABLE = [
    # kind, exit status, end of the log, OOM kills meanwhile
    ("gpu_oom", 1, traceback("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB."), 0),
    ("gpu_oom", 1, traceback("torch.cuda.OutOfMemoryError: CUDA out of memory."), 0),
    ("gpu_oom", 1, traceback("RuntimeError: CUDA error: out of memory"), 0),
    ("gpu_oom", 1, traceback("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), 0),
    ("cuda_fault", 1, traceback("RuntimeError: CUDA error: device-side assert triggered"), 0),
    ("cuda_fault", 1, traceback("torch.AcceleratorError: CUDA error: an illegal memory access was encountered"), 0),
    ("cuda_fault", -signal.SIGABRT, "terminate called\n  what():  CUDA error: unspecified launch failure", 0),
    ("disk_full", 1, traceback("OSError: [Errno 28] No space left on device: 'checkpoint-5/model.safetensors'"), 0),
    ("disk_full", 1, traceback("safetensors_rust.SafetensorError: I/O error: No space left on device (os error 28)"), 0),
    ("disk_full", 1, traceback("OSError: [Errno 122] Disk quota exceeded"), 0),
    ("nccl", 1, traceback("torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2251"), 0),
    ("nccl", -signal.SIGABRT, "[rank0]: ProcessGroupNCCL's watchdog got stuck", 0),
    ("shared_memory", 1, traceback("RuntimeError: DataLoader worker is killed by signal: Bus error. out of shared memory"), 0),
    ("no_memory", 1, traceback("MemoryError"), 0),
    ("no_memory", 1, traceback("RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), 0),
    ("no_memory", -signal.SIGABRT, "terminate called after throwing an instance of 'std::bad_alloc'", 0),
    ("host_oom", -signal.SIGKILL, "step 3", 1),
    ("host_oom", 1, traceback("RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed."), 1),
    ("killed", -signal.SIGKILL, "step 3", 0),
    ("killed", -signal.SIGKILL, traceback("torch.OutOfMemoryError: an old one that was survived"), 0),
    ("terminated", -signal.SIGTERM, "step 3", 0),
    ("terminated", -signal.SIGINT, traceback("KeyboardInterrupt"), 0),
    ("terminated", -signal.SIGHUP, "", 0),
    ("native_crash", -signal.SIGSEGV, "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1:\n" + FRAME, 0),
    ("native_crash", -signal.SIGABRT, "", 0),
    ("native_crash", -signal.SIGBUS, "", 0),
    ("native_crash", -signal.SIGILL, "", 0),
    ("native_crash", -60, "", 0),
    # nobody learnt the exit status: the hub that had started it was killed before
    ("vanished", None, "step 3", 0),
    ("host_oom", None, "step 3", 1),
    ("native_crash", None, "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1:\n" + FRAME, 0),
    ("gpu_oom", None, traceback("torch.OutOfMemoryError: CUDA out of memory."), 0),
    ("error", None, traceback("ValueError: no such column"), 1),
    ("error", 1, traceback("ValueError: no such column"), 0),
    ("error", 1, "", 0),
    ("error", 2, "usage: python -m tuitune.trainer RUN", 5),
    ("error", 1, "retrying after CUDA out of memory\n" + traceback("ValueError: no such column"), 0),
]


@pytest.mark.parametrize(("kind", "returncode", "log", "kills"), TABLE, ids=lambda value: str(value)[-40:])
def test_a_death_has_its_class_and_a_sentence_that_is_filled_in(kind: str, returncode: int | None, log: str, kills: int) -> None:
    fault = classify(returncode, log, kills)
    assert fault.kind == kind
    assert fault.hint
    assert "\n" not in fault.hint
    assert "{" not in fault.hint
    assert "None" not in fault.hint
    assert (fault.signal is None) == (returncode is None or returncode > 0)


def test_every_class_that_has_a_hint_is_seen_in_the_table() -> None:
    assert {kind for kind, *_ in TABLE} == set(HINTS)


@pytest.mark.parametrize(("returncode", "name"), [(-9, "SIGKILL"), (-11, "SIGSEGV"), (-15, "SIGTERM"), (-60, "signal 60"), (1, None)])
def test_the_signal_has_its_name(returncode: int, name: str | None) -> None:
    assert classify(returncode, "").signal == name


def test_the_trainers_own_sentence_wins_over_every_guess() -> None:
    fault = classify(1, traceback("torch.OutOfMemoryError: x"), error="data.jsonl, line 3: no messages")
    assert (fault.kind, fault.hint) == ("user_error", "data.jsonl, line 3: no messages")


def test_a_kill_that_was_asked_for_names_who_asked() -> None:
    fault = classify(-signal.SIGKILL, "", 3, killed_by="ana")
    assert fault.kind == "killed"
    assert "ana" in fault.hint
    assert classify(1, traceback("ValueError: x"), killed_by="ana").kind == "error", "it died of something else before the kill came"


def test_an_error_of_its_own_shows_its_last_line_even_when_that_has_braces() -> None:
    assert "KeyError: '{signal}'" in classify(1, traceback("KeyError: '{signal}'")).hint
    assert "it said nothing" in classify(1, "\n \n").hint
    assert len(classify(1, "x" * 5000).hint) < 400


# --- the traceback ----------------------------------------------------------------------------------------------------------------


def test_of_several_tracebacks_the_last_is_taken() -> None:
    text = (
        traceback("KeyError: 1")
        + "\n\nDuring handling of the above exception, another exception occurred:\n\n"
        + traceback("ValueError: 2")
    )
    assert last_traceback("noise\n" + text) == traceback("ValueError: 2")


def test_what_faulthandler_writes_of_a_native_crash_counts_as_one() -> None:
    text = "Fatal Python error: Aborted\n\nThread 0x1 (most recent call first):\n" + FRAME.rstrip("\n")
    assert last_traceback(traceback("KeyError: 1") + "\n" + text) == text


def test_a_log_without_traceback_has_none() -> None:
    assert last_traceback("all is well\n") is None
    assert classify(-9, "all is well").traceback is None


def test_a_long_traceback_keeps_its_end_and_fits_into_a_record() -> None:
    found = last_traceback(HEAD + FRAME * 500 + "RecursionError: too deep")
    assert found is not None
    assert found.endswith("RecursionError: too deep")
    assert len(found.splitlines()) <= MAX_TRACEBACK
    huge = last_traceback(traceback("ValueError: " + "€" * 200_000))
    assert huge is not None
    assert len(encode({"traceback": huge, "hint": huge})) < MAX_RECORD


# --- the kernel's count -----------------------------------------------------------------------------------------------------------


def test_the_kernels_oom_kills_are_counted_on_this_box() -> None:
    told = [line.split()[1] for line in Path("/proc/vmstat").read_text().splitlines() if line.startswith("oom_kill ")]
    assert oom_kills() >= int(told[0] if told else 0)


@pytest.mark.parametrize(
    ("content", "count"),
    [("low 0\noom_kill 3\noom_group_kill 9\n", 3), ("low 0\n", 0), ("oom_kill many\n", 0), ("oom_kill\n", 0), (None, 0)],
)
def test_a_counter_that_is_missing_or_odd_counts_nothing(tmp_path: Path, content: str | None, count: int) -> None:
    path = tmp_path / "memory.events"
    if content is not None:
        path.write_text(content)
    assert faults._counter(path, "oom_kill") == count
