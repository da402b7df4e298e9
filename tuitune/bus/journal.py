"""The journal of a run: append-only files, one per writing process, and the tail that reads them all.

A record is one write(2) to a file opened with O_APPEND, so a reader never sees two records mixed. What a kill or a full disk can leave
is a torn last line: it never parses (envelope.decode), so the reader skips it and the writer, opened again, ends it with a line feed.
No inotify: polling costs one stat a file and also works on network disks.
"""

import contextlib
import math
import os
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator
from heapq import merge
from pathlib import Path
from typing import Any

from tuitune.bus.envelope import VERSION, as_number, decode, encode
from tuitune.secrets import Masker

MAX_RECORD = 64 << 10  # bytes; longer text belongs into a file of its own
SYNCED = frozenset({"state", "checkpoint", "crash", "end"})  # these also survive a power cut (0.2 ms each); the rest loses seconds at most


class Journal:
    """The writer of one file. Thread-safe; never raises for a full or broken disk, because training must not die of its diary.

    No secret of the environment gets in (tuitune.secrets). OSError only from the constructor, when the file cannot be opened at all.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self.dropped = 0
        """Records that could not be written (disk full …) since the start; the next record that fits carries the number."""
        self._lock = threading.Lock()
        self._masker = Masker()
        last, torn = last_records(path)
        self._next = max((record["n"] for record in last if isinstance(record.get("n"), int)), default=-1) + 1
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._line_open = torn
        self._told = 0

    def emit(self, ev: str, /, **fields: Any) -> None:
        """Append one record; numbering and time are added here."""
        fields = self._masker.mask_all(fields)
        with self._lock:
            head: dict[str, Any] = {"v": VERSION, "n": self._next, "t": time.time(), "ev": ev}
            if self.dropped > self._told:
                head["dropped"] = self.dropped
            line = encode(head | fields | head)  # head first, and nobody's field replaces one of it
            if len(line) > MAX_RECORD:
                line = encode({**head, "too_long": len(line)})
            self._append(line)
            if ev in SYNCED:
                with contextlib.suppress(OSError):
                    os.fdatasync(self._file)

    def _append(self, line: bytes) -> None:
        if self._line_open:
            line = b"\n" + line
        try:
            written = os.write(self._file, line)
        except OSError:
            self.dropped += 1
            return
        self._line_open = written < len(line)
        if written < len(line) - 1:  # torn; one that lacks its line feed alone is whole, and the next write ends it
            self.dropped += 1
            return
        self._next += 1
        self._told = self.dropped

    def close(self) -> None:
        """Close the file; a record emitted after this counts as dropped."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1


def last_records(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """(the whole records in the last 128 KiB of a journal that may exist, oldest first; whether it ends without a line feed)."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 2 * MAX_RECORD))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return [], False
    return [record for line in lines if line and (record := decode(line)) is not None], bool(lines[-1])


def read_records(path: Path, kinds: Collection[str]) -> Iterator[dict[str, Any]]:
    """The whole records of these kinds in a journal that may exist, oldest first. Others are passed over undecoded, so that a new hub
    reads the seconds of a long run (86 MB a day) at the speed of the disk."""
    heads = [f'"ev":"{kind}"'.encode() for kind in kinds]  # envelope and writer put it at the head of a line
    try:
        with path.open("rb") as file:
            for line in file:
                head = line[:120]
                if any(wanted in head for wanted in heads) and (record := decode(line)) is not None and record.get("ev") in kinds:
                    yield record
    except FileNotFoundError:
        return


class JournalTail:
    """Reads what is new in every *.jsonl of a directory, from the beginning. Files may appear, grow and disappear at any time."""

    def __init__(self, directory: Path, only: str | None = None) -> None:
        """`only`: the stem of the one file to read, e.g. "trainer-1"."""
        self.directory = directory
        self.only = only
        self._files: dict[str, _File] = {}

    @property
    def torn(self) -> int:
        """Lines that were no record: what a kill in the middle of a write leaves."""
        return sum(file.torn for file in self._files.values())

    def poll(self, limit_bytes: int = 4 << 20) -> list[dict[str, Any]]:
        """The whole records that are new, by time across files and in order within each; reads about `limit_bytes` at most.

        Each has "src", the stem of its file ("hub", "trainer-1"), added. An empty list means nothing new for now. Where a long history
        takes several polls, the order holds across them: no file runs ahead of the others.
        """
        try:
            names = sorted(name for name in os.listdir(self.directory) if name.endswith(".jsonl"))
        except OSError:
            return []
        files = [self._files.setdefault(name, _File(self.directory / name)) for name in names if self.only in (None, name[:-6])]
        share = max(2 * MAX_RECORD, limit_bytes // max(1, len(files)))
        for file in files:
            file.fill(share)
        # a file that has more to read holds the others back at its last time: its next records may be older than theirs
        horizon = min((file.waiting[-1][0] for file in files if file.more and file.waiting), default=None)
        return [record for _, record in merge(*(file.take(horizon) for file in files), key=_time)]


class _File:
    """One journal file: how far it is read, and what is read but not yet given out, each with a time that never steps back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.waiting: deque[tuple[float, dict[str, Any]]] = deque()
        self.more = False
        self.torn = 0
        self._offset = 0
        self._partial = b""
        self._time = 0.0

    def fill(self, limit: int) -> None:
        """Read up to `limit` bytes when nothing waits; sets `more` when the file goes on. Garbage is passed over."""
        if self.waiting:
            return
        self.more = True
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                while self.more and not self.waiting:
                    data = file.read(limit)
                    self.more = len(data) == limit
                    self._offset += len(data)
                    self._split(data)
        except OSError:
            self.more = False

    def _split(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            if line:
                self._line(line)
        if len(self._partial) > 2 * MAX_RECORD:  # no record is that long: a damaged disk
            self._partial = b"\0"  # with this at its head the rest of the line is no record either

    def _line(self, line: bytes) -> None:
        record = decode(line)
        if record is None:
            self.torn += 1
            return
        record["src"] = self.path.stem
        stamp = as_number(record.get("t"))
        if stamp is not None and math.isfinite(stamp):
            self._time = max(self._time, stamp)  # a clock may step back; the order within a file is what happened
        self.waiting.append((self._time, record))

    def take(self, horizon: float | None) -> list[tuple[float, dict[str, Any]]]:
        """What waits up to the time `horizon` (None: all of it)."""
        taken = []
        while self.waiting and (horizon is None or self.waiting[0][0] <= horizon):
            taken.append(self.waiting.popleft())
        return taken


def _time(entry: tuple[float, dict[str, Any]]) -> float:
    return entry[0]
