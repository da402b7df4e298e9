"""Where a run's sockets are, and who may speak on them.

ipc sockets in /tmp/tuitune-<uid>/<hash of the run's path>/: run directories are often too long for a socket path (107 bytes), and
$XDG_RUNTIME_DIR goes away with the last logout while the run lives on. The folder is this user's alone (0700, checked like tmux does),
and the kernel's peer credentials are asked for as well. Never tcp, never abstract sockets: those answer anybody on the box.
"""

import contextlib
import json
import os
import secrets
import stat
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from tuitune.errors import UserError
from tuitune.files import write_atomically


@dataclass(frozen=True)
class Connection:
    """What connection.json says: the two endpoints, the host they are on, and the word the trainer identifies itself with."""

    hub: str
    trainer: str
    token: str
    host: str


def user_folder() -> Path:
    """/tmp/tuitune-<uid>, this user's own (0700); UserError when somebody else owns the name."""
    return _private(Path(f"/tmp/tuitune-{os.getuid()}"))


def _private(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); the run's sockets live there") from error
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise UserError(
            f"{folder} is not a private folder of yours (owner {info.st_uid}, mode {stat.filemode(info.st_mode)}); remove it and try again"
        )
    return folder


def socket_folder(run: Path) -> Path:
    """The folder of this run's sockets (made when it is missing)."""
    return _private(user_folder() / sha256(str(run.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16])


def new_connection(run: Path) -> Connection:
    """Endpoints and a fresh token for this run's hub."""
    folder = socket_folder(run)
    return Connection(f"ipc://{folder}/hub.sock", f"ipc://{folder}/trainer.sock", secrets.token_hex(16), os.uname().nodename)


def write_connection(path: Path, connection: Connection) -> None:
    """connection.json, readable by this user alone."""
    write_atomically(path, json.dumps(asdict(connection)), mode=0o600)


def read_connection(path: Path) -> Connection | None:
    """What connection.json says, or None when there is none (the hub has ended) or it is damaged."""
    try:
        document = json.loads(path.read_bytes())
        return Connection(**{key: str(document[key]) for key in Connection.__dataclass_fields__})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove_sockets(run: Path) -> None:
    """Take the run's sockets and their folder away, as far as they are there."""
    with contextlib.suppress(OSError, UserError):
        folder = socket_folder(run)
        for name in ("hub.sock", "trainer.sock"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
