"""The hub's end of the command sockets: clients ask, the trainer does, every command once.

A command is answered twice: "queued" at once (it is on its way to the trainer), "applied" or "failed" when the trainer reached a step
boundary. The same id again gets the stored answer and is not applied twice. What happens is told through `on_event`, which journals it.
"""

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zmq

from tuitune.bus.envelope import VERSION, decode, encode
from tuitune.bus.sockets import Connection

OPS = frozenset({"stop", "save", "evaluate", "kill"})
KEPT = 1000  # answered commands remembered for clients that ask again


@dataclass
class _Command:
    message: dict[str, Any]
    reply: dict[str, Any]
    client: bytes | None
    sent: bool = False
    received: float = field(default_factory=time.time)


class CommandServer:
    """Owns both sockets; used by one thread. `serve` is called in a loop and returns after at most the given time."""

    def __init__(self, connection: Connection, on_event: Callable[..., None], on_kill: Callable[[], None]) -> None:
        self._context = zmq.Context()
        self._clients = self._bind(connection.hub)
        self._trainer = self._bind(connection.trainer)
        self._token = connection.token
        self._trainer_identity: bytes | None = None
        self._commands: dict[str, _Command] = {}
        self._on_event = on_event
        self._on_kill = on_kill
        self._poller = zmq.Poller()
        self._poller.register(self._clients, zmq.POLLIN)
        self._poller.register(self._trainer, zmq.POLLIN)

    def _bind(self, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.linger = 0
        filter_uid = getattr(zmq, "IPC_FILTER_UID", None)
        if filter_uid is not None:
            socket.setsockopt(filter_uid, os.getuid())
        socket.bind(endpoint)
        return socket

    def serve(self, wait_s: float) -> None:
        """Take what has arrived within `wait_s` seconds."""
        ready = dict(self._poller.poll(int(wait_s * 1000)))
        if self._clients in ready:
            self._drain(self._clients, self._from_client)
        if self._trainer in ready:
            self._drain(self._trainer, self._from_trainer)

    def _drain(self, socket: "zmq.Socket[bytes]", take: Callable[[bytes, dict[str, Any]], None]) -> None:
        while True:
            try:
                identity, *frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = decode(frames[-1]) if frames else None
            if message is not None:
                take(identity, message)

    def _from_client(self, identity: bytes, message: dict[str, Any]) -> None:
        self.accept(message, identity)

    def accept(self, message: dict[str, Any], client: bytes | None = None) -> dict[str, Any]:
        """Take one command (from a socket or a command file) and answer it; returns the answer."""
        key = str(message.get("id") or uuid.uuid4())
        known = self._commands.get(key)
        if known is not None:
            known.client = client or known.client
            self._tell(known)
            return known.reply
        op = message.get("op")
        command = _Command({**message, "id": key}, {"k": "ack", "id": key, "op": op, "s": "queued"}, client)
        self._commands[key] = command
        while len(self._commands) > KEPT:
            del self._commands[next(iter(self._commands))]
        version = message.get("v")
        if not isinstance(version, int) or version > VERSION:
            self._finish(
                command,
                "failed",
                error=f"this run's hub speaks version {VERSION} of the commands, not {version}: use the tuitune that started it",
            )
        elif op not in OPS:
            self._finish(command, "failed", error=f"unknown op {op!r}; this run takes {', '.join(sorted(OPS))}")
        else:
            self._on_event("command", id=key, op=op, args=message.get("args") or {}, by=str(message.get("by") or ""))
            if op == "kill":
                self._on_kill()
                self._finish(command, "applied")
            else:
                self._forward(command)
                self._tell(command)
        return command.reply

    def _forward(self, command: _Command) -> None:
        if self._trainer_identity is not None:
            self._trainer.send_multipart([self._trainer_identity, encode({"k": "cmd", **command.message})])
            command.sent = True

    def _from_trainer(self, identity: bytes, message: dict[str, Any]) -> None:
        if message.get("k") == "hello":
            if message.get("token") == self._token:
                self._trainer_identity = identity
                for command in self._waiting():
                    self._forward(command)
        elif identity == self._trainer_identity and message.get("k") == "result":
            answered = self._commands.get(str(message.get("id")))
            if answered is not None:
                rest = {key: value for key, value in message.items() if key not in ("k", "v", "id", "s", "op")}
                self._finish(answered, str(message.get("s", "failed")), **rest)

    def trainer_gone(self) -> None:
        """The trainer has ended: what it had not answered is answered for it."""
        self._trainer_identity = None
        for command in self._waiting():
            stopped = command.message.get("op") == "stop"
            if stopped:
                self._finish(command, "applied", note="the trainer has ended")
            else:
                self._finish(command, "failed", error="the trainer ended before it came to this")

    def _waiting(self) -> list[_Command]:
        return [command for command in self._commands.values() if command.reply["s"] == "queued"]

    def _finish(self, command: _Command, state: str, **fields: Any) -> None:
        command.reply = {"k": "result", "id": command.message["id"], "op": command.message.get("op"), "s": state, **fields}
        self._tell(command)

    def _tell(self, command: _Command) -> None:
        if command.client is None:
            return
        try:
            self._clients.send_multipart([command.client, encode({"v": VERSION, **command.reply})], zmq.NOBLOCK)
        except zmq.ZMQError:
            command.client = None  # that client has gone; the answer stays for whoever asks again

    def close(self) -> None:
        """Close both sockets."""
        self._context.destroy(linger=200)
