"""Which of several processes was the first to fail, and of what: the others lose their connection to it and end as well.

The exit codes are torchrun's (tuitune.trainer.torchrun writes them down), the words those of each process's own log.
"""

import json
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuitune.hub.faults import Fault, classify
from tuitune.hub.log_tail import LogTail
from tuitune.runs.resume import rank_log
from tuitune.secrets import Masker

_LOST_PEER = re.compile(
    r"Connection (reset|closed) by peer|Connection refused|Broken pipe|remote process exited|[Ss]ocket [Tt]imeout"
    r"|DistNetworkError|DistStoreError|failed to recv|Timed out waiting \d+ms"
)
_TORCHRUNS_OWN = re.compile(r"^[IWE]\d{4} \d\d:\d\d:\d\d\S* .*torch/distributed/|^rank \d+ \(pid \d+\) (ended|failed) with exit code")


@dataclass(frozen=True)
class RankEnd:
    """How one process ended. exitcode: as subprocess has it, negative for a signal."""

    rank: int
    exitcode: int


def first_to_fail(first_log: Path, oom_kills: int) -> Fault | None:
    """The fault of the process that the others ended because of, its rank in it; None when nothing is known (one process, or torchrun was
    killed). first_log: log/<attempt>.rank0.txt. oom_kills: as `classify` takes it."""
    attempt = first_log.name.removesuffix(".rank0.txt")
    ends = [end for file in sorted(first_log.parent.glob(f"{attempt}.*ends.json")) for end in _read(file)]  # one of each machine
    faults = [(end, classify(end.exitcode, "\n".join(words_of(first_log, end.rank)), oom_kills, who="it")) for end in ends]
    own = [found for found in faults if not _lost_peer(*found)]
    if not faults:
        return None
    end, fault = (own or faults)[0]
    log = rank_log(first_log, end.rank)
    how = fault.signal or f"exit code {end.exitcode}"
    return replace(fault, rank=end.rank, hint=f"rank {end.rank} ended first ({how}, {log.parent.name}/{log.name}): {fault.hint}")


def words_of(first_log: Path, rank: int) -> Sequence[str]:
    """The last lines of a process's own log, safe to show; without what torchrun adds to the first one's."""
    log = LogTail(rank_log(first_log, rank), Masker())
    try:
        log.go_on_after(log.path.stat().st_size)
    except OSError:
        return []
    return [line for line in log.recent if not _TORCHRUNS_OWN.match(line)]


def _lost_peer(end: RankEnd, fault: Fault) -> bool:
    """Whether it ended because of another: told to by torchrun, or its exchange with the others broke."""
    if end.exitcode == -signal.SIGTERM or fault.kind == "nccl":
        return True
    return fault.kind == "error" and _LOST_PEER.search(fault.hint) is not None


def _read(path: Path) -> list[RankEnd]:
    try:
        return [RankEnd(int(end["rank"]), int(end["exitcode"])) for end in json.loads(path.read_bytes())["ends"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
