"""The asking end: what the workbench and the command line use to send a command to a living run."""

import getpass
import json
import os
import socket
import time
import uuid
from pathlib import Path
from typing import Any, Literal

import zmq

from tuitune.bus.envelope import VERSION, decode, encode
from tuitune.bus.sockets import Connection, read_connection
from tuitune.errors import UserError
from tuitune.files import write_atomically

ANSWERED = frozenset({"applied", "failed", "no_trainer"})  # a command in one of these states gets no further answer


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

        Where the hub's sockets are out of reach (on a cluster's other node, in another container) the command goes as a file that the hub
        reads within a second; the answer then has "via": "file". UserError when the run has no hub or it does not answer in `wait_s` s.
        """
        command = {"k": "cmd", "v": VERSION, "id": id or str(uuid.uuid4()), "op": op, "args": args or {}, "by": _user()}
        connection = read_connection(self.run / "connection.json")
        if connection is None:
            raise UserError(f"{self.run.name} has no hub to take {op!r}: it has ended, or `tuitune resume {self.run.name}` makes it go on")
        deadline = time.monotonic() + wait_s
        if self._in_reach(connection):
            return self._send_socket(connection.hub, command, deadline, until)
        return self._send_file(command, deadline, until, connection.host)

    def _in_reach(self, connection: Connection) -> bool:
        """Whether the hub's socket is on this host; UserError when it is and nobody listens there."""
        path = Path(connection.hub.removeprefix("ipc://"))
        if connection.host != os.uname().nodename or not os.path.exists(path):
            return False
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(path))
        except ConnectionRefusedError:
            raise UserError(
                f"the hub of {self.run.name} is gone (killed?): `tuitune resume {self.run.name}` gives it another, which takes its trainer "
                "over when that still lives"
            ) from None
        except OSError as error:
            raise UserError(f"{path}: the hub of {self.run.name} cannot be reached ({error.strerror})") from error
        return True

    def _send_socket(self, endpoint: str, command: dict[str, Any], deadline: float, until: str) -> dict[str, Any]:
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.linger = 500
            dealer.connect(endpoint)
            dealer.send(encode(command))
            answer: dict[str, Any] | None = None
            while (left := deadline - time.monotonic()) > 0:
                if not dealer.poll(int(left * 1000) + 1):
                    break
                answer = decode(dealer.recv()) or answer
                if answer and (answer.get("s") in ANSWERED or until == "queued"):
                    return answer
        if answer is not None:
            return answer  # queued: the trainer has not come to a step boundary yet
        raise UserError(f"the hub of {self.run.name} does not answer; `tuitune runs` says whether it still lives")

    def _send_file(self, command: dict[str, Any], deadline: float, until: str, host: str) -> dict[str, Any]:
        folder = self.run / "commands"
        path = folder / f"{uuid.uuid4()}.json"  # the command's own id may be any text
        answer_path = path.with_suffix(".answer")
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            write_atomically(path, json.dumps(command), mode=0o600)
        except OSError as error:
            raise UserError(f"{folder}: the command cannot be left there ({error.strerror})") from error
        answer: dict[str, Any] | None = None
        while time.monotonic() < deadline:
            answer = _read(answer_path) or answer
            if answer and (answer.get("s") in ANSWERED or until == "queued"):
                break
            time.sleep(0.05)
        if answer is not None:
            answer_path.unlink(missing_ok=True)
            return {**answer, "via": "file"}
        if host == os.uname().nodename:
            path.unlink(missing_ok=True)
            raise UserError(f"the hub of {self.run.name} does not answer: its sockets are gone and it takes no command files")
        # another node may see a shared disk's new file only after a minute (attribute caching), so it stays
        note = f"left as a file for the hub on {host}, which has not taken it yet"
        return {"k": "ack", "id": command["id"], "op": command["op"], "s": "queued", "via": "file", "note": note}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return decode(path.read_bytes())
    except OSError:
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
