"""The process of a run's trainer: started here, or found alive after its hub had been killed.

A trainer and all its workers hold `trainer.lock`, so whoever holds it belongs to the run: that is how a new hub finds a trainer whose pid
the manifest does not know yet, and workers that outlived their trainer. The hub holds `hub.lock` alone, and never lets go of it while it
lives: two locks, because one says "a hub lives" and the other "the run is taken".
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Manifest, Process

_OURS = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
LEFTOVERS_S = 10.0  # workers of a dead trainer may wait for a disk or a driver before they die


class TrainerProcess:
    """`returncode` is None while it lives, and stays None for one that another hub has started: only a parent learns it."""

    def __init__(self, pid: int, process: Process | None, started: "subprocess.Popen[bytes] | None", lock: Path) -> None:
        self.pid = pid
        self.process = process
        self.adopted = started is None
        self._started = started
        self._lock = lock
        self._over = False

    @property
    def returncode(self) -> int | None:
        return self._started.returncode if self._started is not None else None

    def ended(self) -> bool:
        """Whether the trainer is over; what is left of it then ends too, before its pid can mean anybody else."""
        if self._over:
            return True
        if self._started is None:
            if self.process is not None and self.process.alive():
                return False
            kill_holders(self._lock)
        else:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
            self._started.wait()
        self._over = True
        return True

    def send(self, number: signal.Signals) -> None:
        """A signal to the trainer itself, unless it has ended."""
        if not self.ended():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> bool:
        """SIGKILL to the trainer and its workers; False when it had ended."""
        if self.ended():
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return True

    def state(self) -> str:
        """The kernel's letter for it."""
        return state_of(self.pid)


def listens_to(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal that would kill it otherwise."""
    return bool(int(_status(pid, "SigCgt") or "0", 16) >> (number - 1) & 1)


def state_of(pid: int) -> str:
    """The kernel's letter: R runs, S sleeps, D waits for a disk or driver, T stopped by a signal; "" when unknown."""
    return _status(pid, "State")[:1]


def ranks_of(pid: int) -> dict[int, int]:
    """By rank, the pids of the processes that torchrun (`pid`) has started; none when it is no torchrun."""
    found = {}
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                told = dict(item.split(b"=", 1) for item in Path(f"/proc/{child}/environ").read_bytes().split(b"\0") if b"=" in item)
                if b"TORCHELASTIC_RUN_ID" in told and told.get(b"RANK", b"").isdigit():
                    found[int(told[b"RANK"])] = int(child)
    return dict(sorted(found.items()))


def start_trainer(
    command: Sequence[str], run: RunDirectory, log: Path, environment: dict[str, str], locks: Sequence[int] = ()
) -> TrainerProcess:
    """Start a trainer that inherits `locks` (of the GPUs) and the run's trainer lock. environment: what it gets besides ours.

    UserError when it cannot start, or a worker of the one before does not end.

    It prints into a file and no pipe, so that it can print after our death, and has a session of its own, so that a kill reaches its
    dataloader workers too and a Ctrl-C at a terminal never does.
    """
    with run.trainer_lock.open("w") as lock:
        _take(lock, run)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            started = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **_OURS, "TUITUNE_RUN": str(run.path), **environment},
                start_new_session=True,
                pass_fds=(lock.fileno(), *locks),
            )
        except OSError as error:
            raise UserError(f"the trainer could not be started ({error.strerror})") from error
        finally:
            os.close(output)
    _sacrifice_first(started.pid)
    return TrainerProcess(started.pid, Process.of(started.pid), started, run.trainer_lock)


def _take(lock: IO[str], run: RunDirectory) -> None:
    """The trainer lock. The trainer before is over, so who still holds it is a worker of that one, and ends."""
    deadline = time.monotonic() + LEFTOVERS_S
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                left = ", ".join(str(process.pid) for process in holders(run.trainer_lock)) or "another box"
                raise UserError(
                    f"{run.name}: what the trainer before has left does not end (processes: {left}); end it and resume"
                ) from None
        kill_holders(run.trainer_lock)
        time.sleep(0.05)


def find_trainer(run: RunDirectory, manifest: Manifest) -> TrainerProcess | None:
    """The run's living trainer, by its identity in the manifest or by the lock that it holds; None, and its leftovers ended, when it is
    over."""
    process = manifest.trainer
    if process is None or not process.alive():
        leaders = [holder for holder in holders(run.trainer_lock) if _leads(holder.pid)]
        process = leaders[0] if leaders else None
    if process is not None:
        return TrainerProcess(process.pid, process, None, run.trainer_lock)
    kill_holders(run.trainer_lock)
    return None


def holders(lock: Path) -> list[Process]:
    """The processes of this user, apart from this one, that hold the lock: who merely reads the file (a backup) is none of them."""
    try:
        wanted = lock.stat()
    except OSError:
        return []
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) != os.getpid() and _holds(entry, wanted) and (process := Process.of(int(entry))):
            found.append(process)
    return found


def kill_holders(lock: Path) -> None:
    """End the workers that a dead trainer left behind."""
    for process in holders(lock):
        if process.alive():
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)


def _holds(pid: str, wanted: os.stat_result) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return False  # another user's, or gone
    for name in names:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(f"{folder}/{name}"), wanted) and "FLOCK" in Path(f"/proc/{pid}/fdinfo/{name}").read_text():
                return True
    return False


def _leads(pid: int) -> bool:
    """Whether it is the first process of its session: the trainer, and none of its workers."""
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False


def _status(pid: int, name: str) -> str:
    """A line of /proc/PID/status; "" when there is none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:")), "")


def _sacrifice_first(pid: int) -> None:
    """When RAM runs out the kernel shall take the trainer, not the hub that can explain it."""
    with contextlib.suppress(OSError):  # not allowed in some containers: then the kernel chooses
        Path(f"/proc/{pid}/oom_score_adj").write_text("500")
