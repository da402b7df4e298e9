"""The asking end: what the workbench and the command line use to send a command to a living run."""

import getpass
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any, Literal

import zmq

from tuitune.bus.envelope import VERSION, decode, encode
from tuitune.bus.sockets import read_connection
from tuitune.errors import UserError
from tuitune.files import write_atomically

FINAL = frozenset({"applied", "failed", "no_trainer"})


class HubClient:
    """Sends commands to the hub of one run; cheap to make, holds nothing between calls."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def send(
        self,
        op: str,
        args: dict[str, Any] | None = None,
        *,
        wait_s: float = 5.0,
        until: Literal["queued", "applied"] = "queued",
        id: str | None = None,
    ) -> dict[str, Any]:
        """Send one command and return its answer {"id", "op", "s", "error"?…}; `until="applied"` waits for the step boundary.

        Where the sockets are on another host (a cluster's shared disk) the command goes as a file that the hub reads within a second;
        the answer then says {"s": "queued", "via": "file"}. UserError when the run has no hub or it does not answer in `wait_s` seconds.
        """
        command = {"k": "cmd", "v": VERSION, "id": id or str(uuid.uuid4()), "op": op, "args": args or {}, "by": _user()}
        connection = read_connection(self.run / "connection.json")
        if connection is None:
            raise UserError(f"{self.run.name} does not run any more: there is no hub to take {op!r}")
        if connection.host != os.uname().nodename:
            return self._send_file(command)
        return self._send_socket(connection.hub, command, time.monotonic() + wait_s, until)

    def _send_socket(self, endpoint: str, command: dict[str, Any], deadline: float, until: str) -> dict[str, Any]:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 500
            socket.connect(endpoint)
            socket.send(encode(command))
            answer: dict[str, Any] | None = None
            while (left := deadline - time.monotonic()) > 0:
                if not socket.poll(int(left * 1000) + 1):
                    break
                answer = decode(socket.recv()) or answer
                if answer and (answer.get("s") in FINAL or until == "queued"):
                    return answer
        if answer is not None:
            return answer  # queued: the trainer has not come to a step boundary yet
        raise UserError(f"the hub of {self.run.name} does not answer; `tuitune runs` says whether it still lives")

    def _send_file(self, command: dict[str, Any]) -> dict[str, Any]:
        folder = self.run / "commands"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            write_atomically(folder / f"{command['id']}.json", json.dumps(command), mode=0o600)
        except OSError as error:
            raise UserError(f"{folder}: the command cannot be left there ({error.strerror})") from error
        return {"k": "ack", "id": command["id"], "op": command["op"], "s": "queued", "via": "file"}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
