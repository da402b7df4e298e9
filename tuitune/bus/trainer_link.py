"""The trainer's end of the command socket: one thread owns it, training only ever looks at a deque.

Without a connection.json (a trainer started by hand) the link takes nothing and answers nobody.
"""

import queue
import threading
from collections import deque
from pathlib import Path
from typing import Any

import zmq

from tuitune.bus.envelope import VERSION, decode, encode
from tuitune.bus.sockets import read_connection


class TrainerLink:
    """Commands in, results out; `start` once, `close` at the end."""

    def __init__(self, run: Path) -> None:
        self._connection = read_connection(run / "connection.json")
        self._inbox: deque[dict[str, Any]] = deque()
        self._outbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Connect to the hub in a daemon thread; returns at once."""
        if self._connection is not None:
            self._thread = threading.Thread(target=self._run, name="tuitune-link", daemon=True)
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

    def close(self) -> None:
        """Send what is left and let go; waits a second at most."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=1)

    def _run(self) -> None:
        assert self._connection is not None
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 500
            socket.connect(self._connection.trainer)
            socket.send(encode({"k": "hello", "v": VERSION, "token": self._connection.token}))
            while True:
                closing = self._closing.is_set()
                while not self._outbox.empty():
                    socket.send(encode(self._outbox.get()))
                if closing:
                    return
                if socket.poll(50):
                    message = decode(socket.recv())
                    if message and message.get("k") == "cmd":
                        self._inbox.append(message)
