"""What the reader needs of a file of any format: how many rows are known, and the rows from a number on.

The reader has one thread and answers several requests at a time, so whatever may take long is an iterator that gives None every few
milliseconds ("still on the way") and lets the others have their turn.
"""

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from tuitune.dataset.sources import Broken, Row
from tuitune.errors import UserError
from tuitune.text import printable

TURN_S = 0.01  # seconds of work between two Nones
LONGEST = 48 << 20  # bytes of one row; ten million characters of any script fit

Numbered = tuple[int, Row | Broken]  # with the row's number from 0
Reading = Generator[Numbered | None, None, None]
Sieve = Callable[[bytes], bool]  # whether a raw line is worth parsing
Stamp = tuple[int, int]  # (mtime in ns, size): when it is the same nobody wrote


class RowFile(ABC):
    """An open data file. `known` rows were found so far, all of them when `complete`; `problem` says why the rest cannot be read.
    `slow`: what a jump in it costs, in words; empty when it costs nothing worth a word."""

    slow = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stamp = stamp_of(path)
        self.known = 0
        self.complete = False
        self.problem = ""
        self.busy = False  # a request is reading it

    @property
    def columns(self) -> list[str]:
        """Columns that the file itself names; [] when only its rows do."""
        return []

    def count(self) -> Iterator[None]:
        """Find all rows, a turn at a time; what was found is in `known`."""
        return iter(())

    @abstractmethod
    def read(self, start: int, sieve: Sieve | None = None) -> Reading:
        """The rows from number `start` on to the end. UserError when the file cannot be read. A format whose rows are lines leaves out
        those that do not pass the sieve."""

    def fresh(self) -> "RowFile":
        """For a forked worker, which shares open files with its parent: the same file opened anew, with what is known of it."""
        twin = copy.copy(self)
        twin.reopen()
        return twin

    def reopen(self) -> None:  # noqa: B027  most formats keep nothing open
        """Open again what another process has open, too."""

    def close(self) -> None:  # noqa: B027
        """Let go of the file."""


class Turn:
    """`over()` is true when a turn's time is up, and then the next turn begins."""

    def __init__(self) -> None:
        self._until = time.monotonic() + TURN_S

    def over(self) -> bool:
        """Look at the clock."""
        now = time.monotonic()
        if now < self._until:
            return False
        self._until = now + TURN_S
        return True


def stamp_of(path: Path) -> Stamp:
    """The file's stamp now; OSError when it cannot be told."""
    info = path.stat()
    return info.st_mtime_ns, info.st_size


def too_long(path: Path, line: int, size: int) -> Broken:
    """What stands for a row that is too large to be read."""
    text = f"{printable(str(path))}:{line}: this row has more than {size >> 20} MiB; rows of up to {LONGEST >> 20} MiB are read here"
    return Broken(UserError(text), str(path), line)
