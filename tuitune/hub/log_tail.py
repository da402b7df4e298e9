"""The trainer's output: it writes to a file (so that it outlives its hub), and the hub reads the file's new lines into the journal."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from tuitune.secrets import Masker
from tuitune.text import printable

MAX_LINE = 8 << 10  # bytes of one log record's text
MAX_LINES_PER_POLL = 40  # from both ends of a burst: a trainer that shouts must not drown the journal; the file has every line
PIECE = 1 << 20  # bytes read at a time, and the longest line that is waited for


class LogTail:
    """New lines of a growing log file. `recent` keeps the last ones for the crash report."""

    def __init__(self, path: Path, masker: Masker) -> None:
        self.path = path
        self.recent: deque[str] = deque(maxlen=200)
        self._masker = masker
        self._offset = 0
        self._partial = b""

    def go_on_after(self, offset: int) -> None:
        """Go on behind the line that begins at `offset`: an earlier hub has told everything up to it. `recent` gets what came before."""
        start = max(0, offset - PIECE // 4)
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                before = file.read(offset - start)
                before += file.readline(PIECE)
                self._offset = file.tell()
        except OSError:
            return
        lines = before.split(b"\n")[1 if start else 0 :]  # the first one lacks its beginning
        self.recent.extend(text for raw in lines if (text := self._readable(raw)).strip())

    def poll(self) -> Iterator[tuple[int, str]]:
        """(byte offset of the line in the file, its text), safe to show and without secrets; a progress bar's redraws count once."""
        yield from self._lines(self._read())

    def rest(self) -> Iterator[tuple[int, str]]:
        """What is left when nothing more will be written, an unfinished last line included."""
        while data := self._read():
            yield from self._lines(data)
        text = self._readable(self._partial)
        if text.strip():
            self.recent.append(text)
            yield self._offset - len(self._partial), text
        self._partial = b""

    def _read(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                return file.read(PIECE)
        except OSError:
            return b""

    def _lines(self, data: bytes) -> Iterator[tuple[int, str]]:
        start = self._offset - len(self._partial)
        self._offset += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > PIECE:
            lines, self._partial = [*lines, self._partial], b""
        left_out = 0
        for number, raw in enumerate(lines):
            text = self._readable(raw)
            offset, start = start, start + len(raw) + 1
            if not text.strip():
                continue
            self.recent.append(text)
            if number < MAX_LINES_PER_POLL or number >= len(lines) - MAX_LINES_PER_POLL:
                yield offset, text
            else:
                left_out += 1
        if left_out:
            yield start, f"… {left_out} more lines in {self.path.name}"

    def _readable(self, raw: bytes) -> str:
        """What of a line a terminal would still show, masked before it is cut: half a secret is one too."""
        shown = raw.rstrip(b"\r").rpartition(b"\r")[2][: 4 * MAX_LINE].decode("utf-8", "replace")
        text = printable(self._masker.mask(shown), newlines=True)
        return text if len(text) <= MAX_LINE // 4 else text.encode()[:MAX_LINE].decode("utf-8", "ignore")
