"""The trainer's end of the command socket: one thread owns it, training only ever looks at a deque.

A hub may die and another take its place: connection.json then names new endpoints and a new token, and the link goes over to them. The
new hub sends again what has no answer yet; an id that was given out before is not given out twice, its result is sent again instead.
Without a connection.json at the start (a trainer started by hand) the link takes nothing and answers nobody.
"""

import contextlib
import os
import queue
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import zmq

from tuitune.bus.envelope import VERSION, decode, encode
from tuitune.bus.sockets import Connection, read_connection

LOOK_S = 1.0  # between looks at connection.json
KEPT = 1000  # ids remembered


class TrainerLink:
    """Commands in, results out; `start` once, `close` at the end."""

    def __init__(self, run: Path) -> None:
        self._path = run / "connection.json"
        self._connection = read_connection(self._path)
        self._inbox: deque[dict[str, Any]] = deque()
        self._outbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._results: dict[str, dict[str, Any] | None] = {}  # of the commands given out; None: not answered yet. The thread's own
        self._closing = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # for the thread to look at the outbox at once
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Connect to the hub in a daemon thread; returns at once."""
        if self._connection is not None:
            self._thread = threading.Thread(target=self._run, args=(self._connection,), name="tuitune-link", daemon=True)
            self._thread.start()

    def take(self) -> list[dict[str, Any]]:
        """The commands that have arrived since the last call ({"id", "op", "args", "by"}); never waits."""
        commands = []
        while self._inbox:
            commands.append(self._inbox.popleft())
        return commands

    def reply(self, id: str, ok: bool, error: str | None = None, **fields: Any) -> None:
        """Tell the hub that a command was applied or failed, with e.g. `step`."""
        result = {"k": "result", "v": VERSION, "id": id, "s": "applied" if ok else "failed", **fields}
        self._outbox.put({**result, "error": error} if error else result)
        if not self._closing.is_set():
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Send what is left and let go; waits a second at most."""
        if self._closing.is_set():
            return
        self._closing.set()
        os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join(timeout=1)
        if self._thread is None or not self._thread.is_alive():
            os.close(self._wake)

    def _run(self, connection: Connection) -> None:
        following: Connection | None = connection
        with zmq.Context() as context:
            while following is not None:
                with context.socket(zmq.DEALER) as socket:
                    socket.linger = 500
                    socket.connect(following.trainer)
                    socket.send(encode({"k": "hello", "v": VERSION, "token": following.token}))
                    following = self._serve(socket, following)

    def _serve(self, socket: "zmq.Socket[bytes]", connection: Connection) -> Connection | None:
        """Carry messages until another hub has taken over (its connection) or the link is closed (None)."""
        seen: tuple[int, int] | None = None
        due = time.monotonic()
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        while True:
            closing = self._closing.is_set()
            while not self._outbox.empty():
                self._send(socket, self._outbox.get())
            if closing:
                return None
            if (now := time.monotonic()) >= due:
                due = now + LOOK_S
                if (stamp := _stamp(self._path)) != seen:
                    seen = stamp
                    newer = read_connection(self._path)
                    if newer is not None and newer != connection:
                        return newer
            ready = dict(poller.poll(int(LOOK_S * 1000)))
            if self._wake in ready:
                os.eventfd_read(self._wake)
            if socket in ready:
                message = decode(socket.recv())
                if message and message.get("k") == "cmd":
                    self._take_in(socket, message)

    def _take_in(self, socket: "zmq.Socket[bytes]", command: dict[str, Any]) -> None:
        key = str(command.get("id"))
        if key not in self._results:
            self._results[key] = None
            while len(self._results) > KEPT:
                del self._results[next(iter(self._results))]
            self._inbox.append(command)
        elif (result := self._results[key]) is not None:
            self._send(socket, result)

    def _send(self, socket: "zmq.Socket[bytes]", result: dict[str, Any]) -> None:
        self._results[result["id"]] = result
        with contextlib.suppress(zmq.Again):  # a hub that is gone takes nothing; the next one asks again
            socket.send(encode(result), zmq.NOBLOCK)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file is replaced; None when there is none."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns
