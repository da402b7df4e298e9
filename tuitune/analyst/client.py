"""Speaks with a helper process such as the analyst: starts it, sends requests, starts it again when it has died. Imports nothing heavy.

`request` blocks its caller and belongs into a thread; any number of threads may ask at the same time.
"""

import contextlib
import itertools
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO, Any

from tuitune.bus.envelope import VERSION, decode, encode
from tuitune.errors import UserError
from tuitune.processes import our_environment
from tuitune.text import printable

Answers = queue.SimpleQueue[dict[str, Any] | None]  # None: the process has ended
LAST_WORDS = 20  # lines of its standard error that are kept
COMMAND = [sys.executable, "-P", "-m", "tuitune.analyst"]


class Died(UserError):
    """The process ended while it worked on the request; the next request starts it again."""


class Cancelled(Exception):
    """The asker has withdrawn the request."""


class Service:
    """A process that answers requests; `name` is what it is called in sentences. The first request starts it, `start` does so before."""

    def __init__(self, command: Sequence[str], name: str) -> None:
        self._command, self._name = command, name
        self.starts = 0  # how often it was started: more than once means that it has died
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pending: dict[str, tuple[subprocess.Popen[bytes], Answers]] = {}
        self._ids = itertools.count(1)
        self._words: deque[str] = deque(maxlen=LAST_WORDS)
        self._closed = False
        self._greeted = False  # whether the process has said hello

    def start(self) -> None:
        """Start the process if it is not there; returns at once."""
        with self._lock:
            self._running()

    def request(
        self,
        op: str,
        args: dict[str, Any],
        *,
        progress: Callable[[str], None] | None = None,
        part: Callable[[Any], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> dict[str, Any]:
        """The result of one request; `part` gets pieces of it that come before. UserError with the reason when it fails, Died when the
        process does; Cancelled when `cancel` is set."""
        id, answers = str(next(self._ids)), Answers()
        with self._lock:
            process = self._running()
            self._pending[id] = process, answers
            self._send(process, {"v": VERSION, "id": id, "op": op, "args": args})
        try:
            while True:
                try:
                    answer = answers.get(timeout=0.05)
                except queue.Empty:
                    if cancel is not None and cancel.is_set():
                        self._send(process, {"v": VERSION, "id": id, "op": "cancel"})
                        raise Cancelled from None
                    continue
                if answer is None:
                    raise Died(f"the {self._name} died while it worked on this ({self._why(process)}); ask again, it starts by itself")
                if answer["ev"] == "result":
                    result: dict[str, Any] = answer["result"]
                    return result
                if answer["ev"] == "error":
                    raise UserError(str(answer["text"]), exit_code=int(answer.get("exit_code", 1)))
                if answer["ev"] == "part":
                    if part is not None:
                        part(answer["part"])
                elif progress is not None:
                    progress(str(answer.get("text", "")))
        finally:
            with self._lock:
                self._pending.pop(id, None)

    def close(self) -> None:
        """End the process; its workers end with it."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            if not self._greeted:  # it imports for some seconds more before it would see that; it has no workers yet
                process.terminate()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise UserError(f"the {self._name} has been closed")
        if self._process is None or self._process.poll() is not None:
            self._words.clear()
            self.starts += 1
            self._greeted = False
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C at the terminal is not meant for it
                env=our_environment(),
            )
            for target in (self._read_answers, self._read_words):
                threading.Thread(target=target, args=(self._process,), name=f"tuitune-{self._name}", daemon=True).start()
        return self._process

    def _send(self, process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it is dying: the end of its answers says so
            process.stdin.write(encode(message))
            process.stdin.flush()

    def _read_answers(self, process: subprocess.Popen[bytes]) -> None:
        output: IO[bytes] | None = process.stdout
        assert output is not None
        for line in output:
            answer = decode(line)
            with self._lock:
                self._greeted = True
                waiting = self._pending.get(str(answer.get("id"))) if answer else None
            if waiting is not None:
                waiting[1].put(answer)
        process.wait()
        with self._lock:
            if self._process is process:
                self._process = None
            lost = [answers for asked, answers in self._pending.values() if asked is process]
        for answers in lost:
            answers.put(None)

    def _read_words(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self._words.append(line.decode(errors="replace").rstrip())

    def _why(self, process: subprocess.Popen[bytes]) -> str:
        code = process.returncode
        last = next((line for line in reversed(self._words) if line.strip()), "")
        if code is not None and code < 0:
            return f"signal {-code}"
        return f"exit code {code}: {printable(last, limit=200)}" if last else f"exit code {code}"


class Analyst(Service):
    """The warm process that prepares rows (tuitune.analyst); one per workspace. It takes some seconds to start."""

    def __init__(self) -> None:
        super().__init__(COMMAND, "analyst")
