"""Commands as they reach the step boundaries: in one process from the hub's link, in several the same on every rank at the same step.

Several ranks agree through the store that torch.distributed has anyway, without a collective of their own: rank 0 writes each command there
with the step at whose boundary it counts, and reads it back, before it takes part in that step's gradient exchange. The others look when
that exchange is behind them, so they find it (run-control.md 2.8). While the run is paused nothing is exchanged, and everybody polls.

The store listens on a TCP port that anybody on the box can reach. So what is written there carries a mark that only somebody with the run's
key can make, and a rank that finds another ends.
"""

import hmac
import time
from collections import deque
from typing import Any, Protocol

from tuitune.bus.envelope import decode, encode

DIGITS = 64  # of a mark
POLL_S = 0.05  # between two looks while the run is paused

Order = dict[str, Any]


class Refused(Exception):
    """Why an order is not carried out, in a sentence for whoever gave it."""


class Link(Protocol):
    """tuitune.bus.trainer_link.TrainerLink, as far as it is needed here."""

    def take(self) -> list[Order]: ...
    def reply(self, id: str, ok: bool, error: str | None = None, **fields: Any) -> None: ...
    def close(self) -> None: ...


class Orders:
    """The commands of a run with one process."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._own: deque[Order] = deque()

    def announce(self, step: int) -> None:
        """Called before the gradients of update number `step` are exchanged."""

    def take(self, step: int) -> list[Order]:
        """What counts at the boundary after update `step`."""
        return self._come()

    def wait(self, step: int) -> list[Order]:
        """What has come while the run is paused after update `step`; returns after some 50 ms at most."""
        time.sleep(POLL_S)
        return self.take(step)

    def give(self, order: Order) -> None:
        """An order of the trainer's own (a signal, a watcher). Rank 0 alone gives any."""
        self._own.append(order)

    def agree(self, word: str | None) -> str | None:
        """What rank 0 says, on every rank; all call it at the same place."""
        return word

    def _come(self) -> list[Order]:
        """What has come since the last call."""
        own = [self._own.popleft() for _ in range(len(self._own))]
        return own + self._link.take()


class Store(Protocol):
    """torch.distributed.Store, as far as it is needed here."""

    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...
    def check(self, keys: list[str]) -> bool: ...


class RankedOrders(Orders):
    """The commands of a run with several processes: `rank` 0 hears the hub, the others hear rank 0."""

    def __init__(self, link: Link, store: Store, rank: int, key: bytes) -> None:
        super().__init__(link)
        self._store, self._rank, self._key = store, rank, key
        self._number = 0  # of the next command in the store
        self._agreed = 0  # of the next word
        self._waiting: deque[tuple[int, Order]] = deque()  # (step at whose boundary it counts, command)

    def announce(self, step: int) -> None:
        """Rank 0: write what has come since the last time."""
        if self._rank == 0:
            for order in self._come():
                key = f"order/{self._number}"
                self._write(key, {"at": step, "order": order})
                self._store.get(key)  # the store's server has it now
                self._number += 1
                self._waiting.append((step, order))

    def take(self, step: int) -> list[Order]:
        """The same on every rank."""
        if self._rank:
            self._read()
        taken = []
        while self._waiting and self._waiting[0][0] <= step:
            taken.append(self._waiting.popleft()[1])
        return taken

    def wait(self, step: int) -> list[Order]:
        """The same on every rank, though not at the same moment."""
        time.sleep(POLL_S)
        self.announce(step)
        return self.take(step)

    def agree(self, word: str | None) -> str | None:
        """Rank 0's word; the others wait for it."""
        key, self._agreed = f"word/{self._agreed}", self._agreed + 1
        if self._rank == 0:
            self._write(key, {"word": word})
            return word
        found: str | None = self._find(key)["word"]
        return found

    def _read(self) -> None:
        while self._store.check([f"order/{self._number}"]):
            record = self._find(f"order/{self._number}")
            self._number += 1
            self._waiting.append((record["at"], record["order"]))

    def _write(self, name: str, record: dict[str, Any]) -> None:
        text = encode(record)
        self._store.set(name, self._mark(name, text) + text.decode())

    def _find(self, name: str) -> dict[str, Any]:
        """What rank 0 has written. RuntimeError when it was somebody else."""
        found = self._store.get(name)
        mark, text = found[:DIGITS], found[DIGITS:]
        record = decode(text)
        if record is None or not hmac.compare_digest(mark, self._mark(name, text).encode()):
            raise RuntimeError(f"{name} in the ranks' store is not of this run: somebody else on this box writes there")
        return record

    def _mark(self, name: str, text: bytes) -> str:
        return hmac.new(self._key, name.encode() + b"\0" + text, "sha256").hexdigest()
