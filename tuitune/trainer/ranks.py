"""Which of a run's processes this one is. torchrun tells it in the environment; a process on its own is rank 0 of one.

Rank 0 speaks for the run: it alone writes the journal, hears the hub and saves the result. The others train, and keep a log of their own.
"""

import ctypes
import faulthandler
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuitune.trainer.orders import Link, Orders

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Rank:
    """`number` of `world` processes, `local` among those of this box."""

    number: int = 0
    local: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether it speaks for the run."""
        return self.number == 0


def this_rank(environment: Mapping[str, str] = os.environ) -> Rank:
    """Of the variables that torchrun sets."""
    return Rank(*(int(environment.get(name, default)) for name, default in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1"))))


class Silent:
    """Journal and link of the ranks that say nothing and are told nothing."""

    dropped = 0

    def emit(self, ev: str, /, **fields: Any) -> None:
        """Nothing."""

    def start(self) -> None:
        """Nothing."""

    def take(self) -> list[dict[str, Any]]:
        """No command."""
        return []

    def reply(self, id: str, ok: bool, error: str | None = None, **fields: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def keep_own_log(log: Path, attempt: int, rank: Rank) -> None:
    """What this process prints goes to log/<attempt>.rank<k>.txt: torchrun mixes all of them into the first one's. OSError."""
    if rank.first:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    file = _open(log / f"{attempt}.rank{rank.number}.txt")
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


def write_stacks_on_demand(log: Path, attempt: int, rank: Rank) -> None:
    """Of several processes each writes its threads' stacks, when SIGUSR1 asks for them, into log/<attempt>.rank<k>.stacks.txt: there the
    hub can tell them apart (tuitune.hub.stacks). OSError."""
    if rank.world > 1:
        file = _open(log / f"{attempt}.rank{rank.number}.stacks.txt")  # open as long as the process lives
        faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def end_with_parent(rank: Rank) -> None:
    """Have the kernel end this process when torchrun, its parent, dies: in a session of its own nobody else would."""
    if rank.world > 1:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def orders_for(link: "Link", rank: Rank) -> "Orders":
    """Where the commands come from: the hub, or rank 0. Call it when the trainer is built: then the ranks are connected."""
    from tuitune.trainer.orders import Orders, RankedOrders

    if rank.world == 1:
        return Orders(link)
    from torch.distributed import PrefixStore, distributed_c10d

    store = PrefixStore("tuitune", distributed_c10d._get_default_store())
    return RankedOrders(link, store, rank.number, os.environ.get("TUITUNE_RANKS_KEY", "").encode())
