"""The hub's end of the command sockets: clients ask, the trainer does, every command once.

A command is answered twice: "queued" at once (it is on its way to the trainer), "applied" or "failed" when the trainer reached a step
boundary. The same id again gets the stored answer and is not applied twice. What happens is told through `on_event`, which journals it;
from the journals a new hub takes up what its predecessor knew (`restore`, `settle`).
"""

import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from tuitune.bus.envelope import JOB_OPS, OPS, VERSION, decode, encode
from tuitune.bus.sockets import Connection
from tuitune.errors import UserError
from tuitune.files import write_atomically

KEPT = 1000  # answered commands remembered for clients that ask again
AT_ONCE = 200  # messages taken in a row before the hub looks at its other work
_ENVELOPE = frozenset(
    {"k", "v", "n", "t", "ev", "src", "id", "op", "s", "ok", "dropped"}
)  # of a result or an `applied` record: not its content


@dataclass
class _Command:
    message: dict[str, Any]
    reply: dict[str, Any]
    client: bytes | Path | None  # a socket's identity, or the file that takes the answer


class CommandServer:
    """Owns both sockets; used by one thread. `serve` is called in a loop and returns after at most the given time."""

    def __init__(
        self, connection: Connection, on_event: Callable[..., None], carry_out: Callable[[dict[str, Any]], dict[str, Any] | None]
    ) -> None:
        """`carry_out` does the commands that are the hub's own and returns the fields of their answer ("error" when refused); None: the
        command is for the trainer."""
        self._context = zmq.Context()
        self._clients = self._bind(connection.hub)
        self._trainer = self._bind(connection.trainer)
        self._token = connection.token
        self._trainer_identity: bytes | None = None
        self._gone = False
        self._commands: dict[str, _Command] = {}
        self._on_event = on_event
        self._carry_out = carry_out
        self._poller = zmq.Poller()
        self._poller.register(self._clients, zmq.POLLIN)
        self._poller.register(self._trainer, zmq.POLLIN)

    def _bind(self, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.linger = 0
        filter_uid = getattr(zmq, "IPC_FILTER_UID", None)
        if filter_uid is not None:
            socket.setsockopt(filter_uid, os.getuid())
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise UserError(f"{endpoint.removeprefix('ipc://')}: the run's socket cannot be opened ({error.strerror})") from error
        return socket

    def serve(self, wait_s: float) -> None:
        """Take what has arrived within `wait_s` seconds."""
        ready = dict(self._poller.poll(int(wait_s * 1000)))
        if self._clients in ready:
            self._drain(self._clients, self._from_client)
        if self._trainer in ready:
            self._drain(self._trainer, self._from_trainer)

    def _drain(self, socket: "zmq.Socket[bytes]", take: Callable[[bytes, dict[str, Any]], object]) -> None:
        for _ in range(AT_ONCE):
            try:
                identity, *frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = decode(frames[-1]) if frames else None
            if message is not None:
                take(identity, message)

    def _from_client(self, identity: bytes, message: dict[str, Any]) -> None:
        self.accept(message, identity)

    def accept(self, message: dict[str, Any], client: bytes | Path) -> None:
        """Take one command: from a socket, or from a command file with `client` as the file for the answer."""
        key = str(message.get("id") or uuid.uuid4())
        known = self._commands.get(key)
        if known is not None:
            known.client = client
            self._tell(known)
            return
        op = message.get("op")
        command = _Command({**message, "id": key}, {"k": "ack", "id": key, "op": op, "s": "queued"}, client)
        self._commands[key] = command
        self._forget_old()
        refusal = _refusal(message)
        if refusal:
            self._finish(command, "failed", error=refusal)
            return
        self._on_event("command", id=key, op=op, args=message.get("args") or {}, by=str(message.get("by") or ""))
        if self._gone:
            self._finish_here(command, "no_trainer", error="the trainer has ended")
        elif not self._done_here(command):
            self._forward(command)
            self._tell(command)

    def _done_here(self, command: _Command) -> bool:
        """Whether the hub itself has answered the command."""
        fields = self._carry_out(command.message)
        if fields is None:
            return False
        self._finish_here(command, "failed" if fields.get("error") else "applied", **fields)
        return True

    def _forget_old(self) -> None:
        """Keep KEPT commands; one that still waits for the trainer is never dropped, however many wait."""
        if (surplus := len(self._commands) - KEPT) > 0:
            answered = [key for key, command in self._commands.items() if command.reply["s"] != "queued"]
            for key in answered[:surplus]:
                del self._commands[key]

    def _forward(self, command: _Command) -> None:
        if self._trainer_identity is not None:
            self._trainer.send_multipart([self._trainer_identity, encode({"k": "cmd", **command.message})])

    def _from_trainer(self, identity: bytes, message: dict[str, Any]) -> None:
        if message.get("k") == "hello":
            if message.get("token") == self._token:
                self._trainer_identity = identity
                for command in self._waiting():
                    self._forward(command)
        elif identity == self._trainer_identity and message.get("k") == "result":
            self._settle(message, str(message.get("s", "failed")))

    def settle(self, record: Mapping[str, Any]) -> None:
        """Take an `applied` record of a journal as the answer, unless the command has one: the socket may have lost it."""
        failed = record.get("ok") is False or record.get("error")
        self._settle(record, "failed" if failed else "applied")

    def _settle(self, answer: Mapping[str, Any], state: str) -> None:
        command = self._commands.get(str(answer.get("id")))
        if command is not None and command.reply["s"] == "queued":
            rest = {key: value for key, value in answer.items() if key not in _ENVELOPE and value is not None}
            self._finish(command, state, **rest)

    def restore(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Know again what an earlier hub of this run had taken: `command` and `applied` records, each command before its answer.

        What has no answer waits, and goes to the trainer when it says hello.
        """
        for record in records:
            if record.get("ev") == "applied":
                self.settle(record)
                continue
            key, op = str(record.get("id")), record.get("op")
            message = {"v": VERSION, "id": key, "op": op, "args": record.get("args") or {}, "by": record.get("by") or ""}
            self._commands.setdefault(key, _Command(message, {"k": "ack", "id": key, "op": op, "s": "queued"}, None))
        self._forget_old()

    def trainer_left(self) -> None:
        """The trainer has ended and another may follow: what waits is offered to the hub once more, and else waits for the next one."""
        self._trainer_identity = None
        for command in self._waiting():
            self._done_here(command)

    def trainer_gone(self) -> None:
        """The last trainer has ended: what it had not answered is answered for it, and so is what still comes."""
        self._gone = True
        self._trainer_identity = None
        self.give_up_waiting()

    def give_up_waiting(self) -> None:
        """Answer what waits for a trainer that is gone."""
        for command in self._waiting():
            if command.message.get("op") == "stop":
                self._finish_here(command, "applied", note="the trainer has ended")
            else:
                self._finish_here(command, "failed", error="the trainer ended before it came to this")

    def _waiting(self) -> list[_Command]:
        return [command for command in self._commands.values() if command.reply["s"] == "queued"]

    def _finish_here(self, command: _Command, state: str, **fields: Any) -> None:
        """Answer for the trainer, in the journal as well (its own answers it journals itself)."""
        self._on_event("applied", id=command.message["id"], op=command.message.get("op"), ok=state == "applied", **fields)
        self._finish(command, state, **fields)

    def _finish(self, command: _Command, state: str, **fields: Any) -> None:
        command.reply = {"k": "result", "id": command.message["id"], "op": command.message.get("op"), "s": state, **fields}
        self._tell(command)

    def _tell(self, command: _Command) -> None:
        answer = encode({"v": VERSION, **command.reply})
        try:
            if isinstance(command.client, Path):
                write_atomically(command.client, answer, mode=0o600)
            elif command.client is not None:
                self._clients.send_multipart([command.client, answer], zmq.NOBLOCK)
        except (zmq.ZMQError, OSError):
            command.client = None  # that client has gone; the answer stays for whoever asks again

    def close(self) -> None:
        """Close both sockets."""
        self._context.destroy(linger=200)


def _refusal(message: dict[str, Any]) -> str | None:
    """Why a command is not taken, in one sentence."""
    version, op = message.get("v"), message.get("op")
    if not isinstance(version, int) or version > VERSION:
        return f"this run's hub speaks version {VERSION} of the commands, not {version}: use the tuitune that started it"
    if not isinstance(op, str) or op not in (*OPS, *JOB_OPS):
        return f"unknown op {op!r}; this run takes {', '.join(sorted(OPS))}"
    if not isinstance(message.get("args") or {}, dict):
        return f"{op}: the arguments must be names with values, like save=false"
    return None
