"""Where every thread of a trainer is, on demand: one process writes it into its log; of several each writes it into a file of its own, and
from there it comes into the journal under the rank's name."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tuitune.errors import UserError
from tuitune.hub.log_tail import LogTail
from tuitune.hub.trainer_process import TrainerProcess, listens_to, ranks_of, state_of
from tuitune.runs.resume import rank_log
from tuitune.secrets import Masker

NOT_YET = "the trainer has not come so far that it could write its stacks"


class Stacks:
    """Of one attempt. first_log: log/<attempt>.rank0.txt."""

    def __init__(self, first_log: Path) -> None:
        self._first_log = first_log
        self._files: dict[int, LogTail] = {}
        self._last: int | None = None

    def ask(self, trainer: TrainerProcess) -> str:
        """Have it write them; returns where they are, in a sentence without a capital. UserError: why it cannot."""
        ranks = ranks_of(trainer.pid)
        if not ranks:
            if not listens_to(trainer.pid, signal.SIGUSR1):
                raise UserError(NOT_YET)
            trainer.send(signal.SIGUSR1)
            return f"the stacks are in {self._first_log}"
        silent = [words for rank, pid in ranks.items() if (words := self._ask_one(rank, pid))]
        if len(silent) == len(ranks) and not any("stopped" in words for words in silent):
            raise UserError(NOT_YET)
        where = f"the stacks of {len(ranks)} processes are in {rank_log(self._first_log, '*', 'stacks.txt')}"
        return "; ".join([where, *silent])

    def poll(self) -> Iterator[tuple[int, str]]:
        """(rank, line) of what was written since the last time; before the lines of another process one that names it."""
        for rank, file in self._files.items():
            for _, text in file.poll():
                if rank != self._last:
                    yield rank, f"stacks of rank {rank}:"
                self._last = rank
                yield rank, text

    def _ask_one(self, rank: int, pid: int) -> str:
        """Why this process writes nothing now; "" when it does."""
        if not listens_to(pid, signal.SIGUSR1):
            return f"rank {rank} has not come so far that it could write any"
        if rank not in self._files:
            self._files[rank] = file = LogTail(rank_log(self._first_log, rank, "stacks.txt"), Masker())
            with contextlib.suppress(OSError):
                file.go_on_after(file.path.stat().st_size)  # what was asked for earlier
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)
        return f"rank {rank} is stopped by a signal (kill -CONT {pid} lets it go on)" if state_of(pid) == "T" else ""
