"""A terminal for tests and benches: a real pseudo-terminal, what arrives stamped with its time, replayed through pyte when looked at.

It answers what a terminal is asked at start (device attributes, cursor position, mode queries), can be slow (bytes per second), can be
resized, and can be hung up.
"""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyte

KEYS = {
    "enter": "\r", "tab": "\t", "escape": "\x1b", "backspace": "\x7f", "space": " ", "delete": "\x1b[3~",
    "up": "\x1b[A", "down": "\x1b[B", "right": "\x1b[C", "left": "\x1b[D", "home": "\x1b[H", "end": "\x1b[F",
    "pageup": "\x1b[5~", "pagedown": "\x1b[6~", "shift+tab": "\x1b[Z",
    "f1": "\x1bOP", "f2": "\x1bOQ", "f3": "\x1bOR", "f4": "\x1bOS", "f5": "\x1b[15~", "f6": "\x1b[17~", "f7": "\x1b[18~", "f8": "\x1b[19~",
    "f9": "\x1b[20~", "f10": "\x1b[21~", "f11": "\x1b[23~", "f12": "\x1b[24~",
    "shift+f3": "\x1b[1;2R", "shift+f5": "\x1b[15;2~", "shift+f8": "\x1b[19;2~",
    "alt+enter": "\x1b\r", "ctrl+space": "\x00", "ctrl+backslash": "\x1c", "ctrl+home": "\x1b[1;5H", "ctrl+end": "\x1b[1;5F",
}  # fmt: skip
_QUERIES = (
    (re.compile(rb"\x1b\[6n"), b"\x1b[1;1R"),
    (re.compile(rb"\x1b\[(?:>|=)?0?c"), b"\x1b[?62;22c"),
    (re.compile(rb"\x1b\[\?2026\$p"), b"\x1b[?2026;2$y"),
    (re.compile(rb"\x1b\[\?2048\$p"), b"\x1b[?2048;0$y"),
    (re.compile(rb"\x1b\[\?1004\$p"), b"\x1b[?1004;2$y"),
)
# What pyte would print as text instead of passing over it: kitty's keyboard protocol, mode questions, private CSI, DCS, OSC.
_UNKNOWN = re.compile(
    rb"\x1b\[[<>=?][0-9;:]*[a-gi-km-zA-Z]|\x1b\[[0-9;:?]*[ $!\"'*][@-~]|\x1b[P_^X].*?\x1b\\|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)", re.DOTALL
)
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-9;:<>=?]*[ $!\"'*]?|[P_^X][^\x1b]*\x1b?|\][^\x07\x1b]*\x1b?)?$")


def key_bytes(key: str) -> bytes:
    """What a terminal sends for a key: a name of KEYS, `ctrl+x`, `alt+x`, or the text itself."""
    if key in KEYS:
        return KEYS[key].encode()
    if key.startswith("ctrl+") and len(key) == 6:
        return bytes([ord(key[5].upper()) & 0x1F])
    if key.startswith("alt+") and len(key) == 5:
        return b"\x1b" + key[4].encode()
    if key.startswith(("ctrl+", "alt+", "shift+")):
        raise KeyError(f"{key}: this terminal does not know what to send for it")
    return key.encode()


class Terminal:
    """Runs `command` in a pseudo-terminal of `size` (columns, rows); a context manager that ends it.

    bytes_per_second: how much the line carries; `stalled`: set, nothing arrives any more until it is cleared. answers_after: seconds that
    an answer of the terminal's takes. colors: "truecolor", "256" or "16", what TERM and COLORTERM say. home: a folder that holds the
    program's HOME, configuration, cache and state instead of the user's.
    `chunks` is what came, each with its time.monotonic().
    """

    def __init__(
        self,
        command: Sequence[str],
        size: tuple[int, int] = (120, 40),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        bytes_per_second: float | None = None,
        colors: str = "truecolor",
        home: Path | None = None,
        answers_after: float = 0.0,
    ) -> None:
        self.size = size
        self.answers_after = answers_after
        self.chunks: list[tuple[float, bytes]] = []
        self._fed = 0
        self._held = b""
        self._rows: dict[int, int] = {}
        self._rate = bytes_per_second
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self._closed = threading.Event()
        self.stalled = threading.Event()
        self.master, slave = pty.openpty()
        self._set_size(size)
        environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", **(env or {})}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):  # what the test runner was told of its own terminal
            environment.pop(name, None)
        environment["COLORTERM"] = "truecolor" if colors == "truecolor" else ""
        if colors == "16":
            environment["TERM"] = "xterm-16color"
        if home is not None:
            folders = {"XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "XDG_STATE_HOME": "state", "XDG_DATA_HOME": "data"}
            environment |= {"HOME": str(home), **{name: str(home / folder) for name, folder in folders.items()}}
        environment.update(env or {})
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            list(command),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=environment,
            start_new_session=True,
            preexec_fn=self._own_terminal,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @staticmethod
    def _own_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def bytes_out(self) -> int:
        """Bytes the program has written so far."""
        return sum(len(data) for _, data in self.chunks)

    def send(self, *keys: str) -> None:
        """Type keys (names of KEYS, ctrl+x, alt+x) or text."""
        for key in keys:
            os.write(self.master, key_bytes(key))

    def screen(self) -> str:
        """What stands on the screen now, lines without their trailing blanks."""
        self._feed()
        return self.screen_now()

    def screen_now(self) -> str:
        """What stood on the screen after the last chunk that `replay` handed out."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def cells(self) -> list[list[tuple[object, ...]]]:
        """Every cell as (character, foreground, background, bold, italics, underscore, reverse, strikethrough)."""
        self._feed()
        rows = []
        for y in range(self._screen.lines):
            row = self._screen.buffer[y]
            rows.append(
                [
                    (c.data, c.fg, c.bg, c.bold, c.italics, c.underscore, c.reverse, c.strikethrough)
                    for c in (row[x] for x in range(self._screen.columns))
                ]
            )
        return rows

    def wait_for(self, wanted: str | re.Pattern[str], timeout: float = 60.0) -> str:
        """The screen once it shows `wanted` (a text or a pattern); AssertionError with the screen after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            over = self.process.poll() is not None and self._closed.is_set()  # before looking: its last words come until then
            shown = self.screen()
            if wanted in shown if isinstance(wanted, str) else wanted.search(shown):
                return shown
            if time.monotonic() > deadline or over:
                raise AssertionError(f"{wanted!r} never came; exit {self.process.poll()}; the screen:\n{shown}")
            time.sleep(0.02)

    def wait_gone(self, wanted: str, timeout: float = 60.0) -> str:
        """The screen once it no longer shows `wanted`."""
        deadline = time.monotonic() + timeout
        while wanted in (shown := self.screen()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{wanted!r} stayed:\n{shown}")
            time.sleep(0.02)
        return shown

    def settle(self, quiet_s: float = 0.3, timeout: float = 30.0) -> None:
        """Wait until nothing was written for `quiet_s` seconds, counted from now at the earliest."""
        called = time.monotonic()
        deadline = called + timeout
        while time.monotonic() < deadline:
            last = max(called, self.chunks[-1][0] if self.chunks else called)
            if time.monotonic() - last >= quiet_s:
                return
            time.sleep(0.02)

    def resize(self, size: tuple[int, int]) -> None:
        """Another size; the program gets SIGWINCH."""
        self._feed()
        self.size = size
        self._screen.resize(lines=size[1], columns=size[0])
        self._set_size(size)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def hang_up(self) -> None:
        """The line is lost: the terminal goes away under the program."""
        self._closed.set()
        self._reader.join(timeout=2)
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        """End the program, whatever it is doing."""
        self._closed.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(timeout=2)
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def _set_size(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def replay(self) -> Iterator[tuple[float, int, bool]]:
        """What came since the last look, read by read: (when, bytes, whether a cell or the visible cursor changed)."""
        while self._fed < len(self.chunks):
            when, data = self.chunks[self._fed]
            self._fed += 1
            cursor = self._screen.cursor
            before = (cursor.x, cursor.y, cursor.hidden)
            self._screen.dirty.clear()
            self._show(data)
            changed = (cursor := self._screen.cursor).hidden is False and (cursor.x, cursor.y, cursor.hidden) != before
            for y in self._screen.dirty:
                row = self._screen.buffer[y]
                mark = hash(tuple(row[x] for x in range(self._screen.columns)))
                if self._rows.get(y) != mark:
                    self._rows[y], changed = mark, True
            yield when, len(data), changed

    def _feed(self) -> None:
        chunks = self.chunks[self._fed :]
        self._fed += len(chunks)
        for _, data in chunks:
            self._show(data)

    def _show(self, data: bytes) -> None:
        whole = _UNKNOWN.sub(b"", self._held + data)
        tail = _UNFINISHED.search(whole)
        self._held = whole[tail.start() :] if tail else b""
        self._stream.feed(whole[: tail.start()] if tail else whole)

    def _read(self) -> None:
        answered = b""
        while not self._closed.is_set():
            if self.stalled.is_set():
                time.sleep(0.05)
                continue
            ready, _, _ = select.select([self.master], [], [], 0.05)
            if not ready:
                continue
            try:
                data = os.read(self.master, 65536 if self._rate is None else max(64, int(self._rate / 50)))
            except OSError:
                break
            if not data:
                break
            self.chunks.append((time.monotonic(), data))
            answered = (answered + data)[-4096:]
            for pattern, reply in _QUERIES:
                if pattern.search(answered):
                    answered = pattern.sub(b"", answered)
                    if self.answers_after:
                        threading.Timer(self.answers_after, self._answer, (reply,)).start()
                    else:
                        self._answer(reply)
            if self._rate is not None:
                time.sleep(len(data) / self._rate)
        self._closed.set()

    def _answer(self, reply: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self.master, reply)
