"""The journal of a run: append-only files, one per writing process, and the tail that reads them all.

A record is one write(2) to a file opened with O_APPEND, so a reader never sees two records mixed. What a kill or a full disk can leave
is a torn last line: it never parses (envelope.decode), so the reader skips it and the writer, opened again, ends it with a line feed.
No inotify: polling costs one stat a file and also works on network disks.
"""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuitune.bus.envelope import VERSION, decode, encode

MAX_RECORD = 64 << 10  # bytes; longer text belongs into a file of its own


class Journal:
    """The writer of one file. Thread-safe; never raises for a full or broken disk, because training must not die of its diary."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self.dropped = 0
        """Records that could not be written (disk full …) since the start; the next record that fits carries the number."""
        self._lock = threading.Lock()
        self._next, torn = _resume(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._line_open = torn
        self._told = 0

    def emit(self, ev: str, /, **fields: Any) -> None:
        """Append one record; numbering and time are added here."""
        with self._lock:
            record = {"v": VERSION, "n": self._next, "t": time.time(), "ev": ev, **fields}
            if self.dropped > self._told:
                record["dropped"] = self.dropped
            line = encode(record)
            if len(line) > MAX_RECORD:
                line = encode({**{key: record[key] for key in ("v", "n", "t", "ev")}, "too_long": len(line)})
            self._append(line)

    def _append(self, line: bytes) -> None:
        if self._line_open:
            line = b"\n" + line
        try:
            written = os.write(self._file, line)
        except OSError:
            self.dropped += 1
            return
        self._line_open = written < len(line)
        if self._line_open:
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


def _resume(path: Path) -> tuple[int, bool]:
    """(number of the next record, whether the file ends in a torn line) of a journal that may exist already."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 2 * MAX_RECORD))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return 0, False
    torn = bool(lines[-1])
    for line in reversed(lines):
        record = decode(line) if line else None
        if record is not None and isinstance(record.get("n"), int):
            return record["n"] + 1, torn
    return 0, torn


@dataclass
class _Position:
    offset: int = 0
    partial: bytes = b""


class JournalTail:
    """Reads what is new in every *.jsonl of a directory, from the beginning. Files may appear, grow and disappear at any time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.torn = 0
        """Lines that were no record: what a kill in the middle of a write leaves."""
        self._positions: dict[str, _Position] = {}

    def poll(self, limit_bytes: int = 4 << 20) -> list[dict[str, Any]]:
        """The whole records that are new, at most about `limit_bytes` of them, by time across files and in order within each.

        Each has "src", the stem of its file ("hub", "trainer-1"), added. An empty list means nothing new for now.
        """
        files: list[list[dict[str, Any]]] = []
        try:
            names = sorted(name for name in os.listdir(self.directory) if name.endswith(".jsonl"))
        except OSError:
            return []
        for name in names:
            records = self._read(name, limit_bytes // max(1, len(names)))
            if records:
                files.append(records)
        return files[0] if len(files) == 1 else _by_time(files)

    def _read(self, name: str, limit: int) -> list[dict[str, Any]]:
        position = self._positions.setdefault(name, _Position())
        try:
            with open(self.directory / name, "rb") as file:
                file.seek(position.offset)
                data = file.read(limit)
        except OSError:
            return []
        if not data:
            return []
        position.offset += len(data)
        *lines, position.partial = (position.partial + data).split(b"\n")
        records = []
        for line in lines:
            if not line:
                continue
            record = decode(line)
            if record is None:
                self.torn += 1
                continue
            record["src"] = name.removesuffix(".jsonl")
            records.append(record)
        return records


def _by_time(files: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Merge by wall clock without ever reordering a file's own records (a clock may step back)."""
    from heapq import merge

    keyed = []
    for records in files:
        latest = 0.0
        rows = []
        for record in records:
            stamp = record.get("t")
            latest = max(latest, float(stamp)) if isinstance(stamp, int | float) else latest
            rows.append((latest, record))
        keyed.append(rows)
    return [record for _, record in merge(*keyed, key=lambda row: row[0])]
