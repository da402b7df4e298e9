"""The run's sockets: this user's alone, one version, one trainer, every command once."""

import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from tuitune.bus import server, sockets
from tuitune.bus.client import HubClient
from tuitune.bus.envelope import VERSION, decode, encode
from tuitune.bus.server import CommandServer
from tuitune.bus.sockets import (
    Connection,
    new_connection,
    read_connection,
    remove_sockets,
    socket_folder,
    user_folder,
    write_connection,
)
from tuitune.bus.trainer_link import TrainerLink
from tuitune.errors import UserError

ROOT = Path(__file__).parents[3]
SOMEBODY_ELSE = 65534
only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


def until(condition: Callable[[], object], seconds: float = 60.0) -> object:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError("that never came true")


class Hub:
    """A CommandServer that serves in a thread, with what it told."""

    def __init__(self, run: Path, known: Iterable[dict[str, Any]] = ()) -> None:
        self.run = run
        self.connection = new_connection(run)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.kills: list[str] = []
        self.server = CommandServer(self.connection, lambda ev, **fields: self.events.append((ev, fields)), self.carry_out)
        self.server.restore(known)
        write_connection(run / "connection.json", self.connection)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def carry_out(self, command: dict[str, Any]) -> dict[str, Any] | None:
        """The hub's own: kill."""
        if command["op"] != "kill":
            return None
        self.kills.append(str(command.get("by")))
        return {}

    def _serve(self) -> None:
        while not self._ending.is_set():
            self.server.serve(0.02)

    def close(self, *, leaving_all: bool = False) -> None:
        """`leaving_all`: like a hub that is killed, whose files stay."""
        self._ending.set()
        self._thread.join(5)
        self.server.close()
        if not leaving_all:
            remove_sockets(self.run)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    one = Hub(tmp_path)
    yield one
    one.close()


@contextmanager
def dealer(endpoint: str) -> Iterator["zmq.Socket[bytes]"]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        yield socket


def ask(socket: "zmq.Socket[bytes]", seconds: float = 5.0, **message: object) -> dict[str, Any] | None:
    socket.send(encode(message))
    return decode(socket.recv()) if socket.poll(int(seconds * 1000)) else None


def trainer_of(run: Path) -> TrainerLink:
    link = TrainerLink(run)
    link.start()
    return link


# --- the folder -------------------------------------------------------------------------------------------------------------------


def test_the_users_folder_is_private_and_in_tmp() -> None:
    folder = user_folder()
    assert folder == Path(f"/tmp/tuitune-{os.getuid()}")
    assert stat.S_IMODE(folder.lstat().st_mode) == 0o700


def test_every_run_has_a_folder_of_its_own_short_enough_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 200)
    first, second = new_connection(deep), new_connection(tmp_path)
    try:
        assert first.hub != second.hub
        assert first.token != second.token
        for endpoint in (first.hub, first.trainer):
            assert len(endpoint.removeprefix("ipc://")) <= 107
        assert stat.S_IMODE(socket_folder(deep).lstat().st_mode) == 0o700
    finally:
        remove_sockets(deep)
        remove_sockets(tmp_path)


def occupied_by_a_file(path: Path) -> None:
    path.write_text("")


def occupied_by_a_link(path: Path) -> None:
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    path.symlink_to(elsewhere)


def open_to_the_group(path: Path) -> None:
    path.mkdir()
    path.chmod(0o750)


def open_to_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def owned_by_somebody_else(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, SOMEBODY_ELSE, SOMEBODY_ELSE)


@pytest.mark.parametrize(
    "occupy",
    [occupied_by_a_file, occupied_by_a_link, open_to_the_group, open_to_all, pytest.param(owned_by_somebody_else, marks=only_root)],
)
def test_a_folder_that_is_not_private_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, occupy: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(sockets, "user_folder", lambda: tmp_path)
    folder = socket_folder(tmp_path)
    folder.rmdir()
    occupy(folder)
    with pytest.raises(UserError) as refused:
        socket_folder(tmp_path)
    assert str(folder) in str(refused.value)
    assert "not a private folder of yours" in str(refused.value)
    assert "\n" not in str(refused.value)


# --- connection.json --------------------------------------------------------------------------------------------------------------


def test_connection_json_is_readable_by_its_user_alone_and_comes_back(tmp_path: Path) -> None:
    path, connection = tmp_path / "connection.json", Connection("ipc:///a", "ipc:///b", "word", "box")
    write_connection(path, connection)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_connection(path) == connection


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'"text"', b"null", b'{"hub": "ipc:///a"}', b"\xff\xfe\x00"])
def test_a_missing_or_damaged_connection_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "connection.json"
    if content is not None:
        path.write_bytes(content)
    assert read_connection(path) is None


def test_without_a_hub_the_client_says_so_and_the_trainers_link_is_quiet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no hub to take 'stop': it has ended"):
        HubClient(tmp_path).send("stop")
    link = trainer_of(tmp_path)
    link.reply("x", True)
    assert link.take() == []
    link.close()


def test_a_hub_that_died_without_a_word_is_told_not_waited_for(tmp_path: Path) -> None:
    """Its socket is still there, and nobody listens on it."""
    import socket

    connection = new_connection(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(connection.hub.removeprefix("ipc://"))
    write_connection(tmp_path / "connection.json", connection)
    before = time.monotonic()
    try:
        with pytest.raises(UserError, match="is gone"):
            HubClient(tmp_path).send("stop", wait_s=30)
        assert time.monotonic() - before < 10
    finally:
        remove_sockets(tmp_path)


# --- somebody else ----------------------------------------------------------------------------------------------------------------

STRANGER = """
import os, sys, zmq
context = zmq.Context()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with context.socket(zmq.DEALER) as dealer:
    dealer.linger = 0
    dealer.connect(sys.argv[1])
    dealer.send(sys.argv[2].encode())
    print("answered" if dealer.poll(int(sys.argv[3])) else "no answer")
"""


def stranger(endpoint: str, wait_ms: int) -> str:
    command = encode({"k": "cmd", "v": VERSION, "id": "x", "op": "kill"}).decode().strip()
    done = subprocess.run([sys.executable, "-c", STRANGER, endpoint, command, str(wait_ms)], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@only_root
@pytest.mark.parametrize("folder_mode", [0o700, 0o755])
def test_another_user_gets_no_answer_even_when_the_folder_lets_him_in(monkeypatch: pytest.MonkeyPatch, folder_mode: int) -> None:
    """0700 keeps him from the socket; with the folder open the kernel's word about who connects does."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        monkeypatch.setattr(sockets, "user_folder", lambda: Path(name))
        hub = Hub(Path(name))
        path = Path(hub.connection.hub.removeprefix("ipc://"))
        path.chmod(0o777)
        for folder in (path.parent, path.parent.parent):
            folder.chmod(folder_mode)
        try:
            assert stranger(hub.connection.hub, 700) == "no answer"
            assert hub.kills == []
            assert hub.events == []
            with dealer(hub.connection.hub) as ours:
                assert ask(ours, k="cmd", v=VERSION, id="y", op="kill")["s"] == "applied", "the same command of ours is taken"
        finally:
            path.parent.chmod(0o700)
            hub.close()


# --- what is said -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [VERSION + 1, None, "1"])
def test_another_version_of_the_protocol_is_refused_with_its_text(hub: Hub, version: object) -> None:
    with dealer(hub.connection.hub) as client:
        answer = ask(client, k="cmd", v=version, id="a", op="stop")
    assert answer is not None
    assert answer["s"] == "failed"
    assert f"version {VERSION}" in answer["error"]
    assert hub.events == []


@pytest.mark.parametrize(
    ("op", "args", "words"),
    [
        ("dance", {}, "unknown op 'dance'"),
        (None, {}, "unknown op"),
        (["stop"], {}, "unknown op"),
        ({"a": 1}, {}, "unknown op"),
        ("stop", ["save"], "names with values"),
    ],
)
def test_a_command_nobody_knows_is_refused_with_what_is_taken(hub: Hub, op: object, args: object, words: str) -> None:
    with dealer(hub.connection.hub) as client:
        answer = ask(client, k="cmd", v=VERSION, id="a", op=op, args=args)
    assert answer is not None
    assert answer["s"] == "failed"
    assert words in answer["error"]


def test_garbage_on_the_socket_does_not_keep_the_next_command_from_its_answer(hub: Hub) -> None:
    with dealer(hub.connection.hub) as client:
        for garbage in (b"", b"\xff\x00", b"[]", b"[" * 50_000, b"null"):
            client.send(garbage)
        client.send_multipart([b"two", b"frames"])
        assert ask(client, k="cmd", v=VERSION, id="a", op="save")["s"] == "queued"


def test_a_trainer_with_a_wrong_token_is_ignored(hub: Hub) -> None:
    with dealer(hub.connection.trainer) as impostor, dealer(hub.connection.hub) as client:
        impostor.send(encode({"k": "hello", "v": VERSION, "token": "guessed"}))
        assert ask(client, k="cmd", v=VERSION, id="a", op="save")["s"] == "queued"
        impostor.send(encode({"k": "result", "v": VERSION, "id": "a", "s": "applied"}))
        trainer = trainer_of(hub.run)
        (command,) = until(trainer.take)
        assert command["id"] == "a"
        trainer.reply("a", False, error="no room", step=7)
        assert client.poll(5000)
        answer = decode(client.recv())
        assert (answer["s"], answer["error"], answer["step"]) == ("failed", "no room", 7), "the answer is the true trainer's"
        assert not impostor.poll(50), "nothing was passed to the impostor"
        trainer.close()


def test_a_command_sent_before_the_trainer_is_there_waits_for_it(hub: Hub) -> None:
    assert HubClient(hub.run).send("evaluate", id="early")["s"] == "queued"
    trainer = trainer_of(hub.run)
    (command,) = until(trainer.take)
    trainer.reply(command["id"], True, step=3)
    answer = HubClient(hub.run).send("evaluate", id="early", until="applied")
    assert (answer["s"], answer["step"]) == ("applied", 3)
    trainer.close()


def test_the_same_id_again_gets_the_stored_answer_and_is_not_applied_twice(hub: Hub) -> None:
    trainer = trainer_of(hub.run)
    HubClient(hub.run).send("save", id="once")
    (command,) = until(trainer.take)
    HubClient(hub.run).send("save", id="once")
    trainer.reply(command["id"], True, step=5)
    answer = HubClient(hub.run).send("save", id="once", until="applied")
    assert (answer["s"], answer["step"]) == ("applied", 5)
    assert trainer.take() == []
    assert [ev for ev, _ in hub.events] == ["command"]
    trainer.close()


def test_a_command_that_waits_is_not_forgotten_for_newer_ones(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEPT", 5)
    HubClient(hub.run).send("save", id="first")
    for number in range(20):
        HubClient(hub.run).send("dance", id=f"refused-{number}")
    assert len(hub.server._commands) == 5
    trainer = trainer_of(hub.run)
    (command,) = until(trainer.take)
    trainer.reply(command["id"], True, step=3)
    assert HubClient(hub.run).send("save", id="first", until="applied")["s"] == "applied"
    trainer.close()


def test_an_answer_that_only_the_journal_has_counts(hub: Hub) -> None:
    with dealer(hub.connection.hub) as client:
        assert ask(client, k="cmd", v=VERSION, id="a", op="set")["s"] == "queued"
        hub._ending.set()
        hub._thread.join(5)
        hub.server.settle({"ev": "applied", "id": "a", "op": "set", "step": 4, "ok": True, "error": None, "old": 1, "new": 2, "n": 9})
        assert client.poll(5000)
        answer = decode(client.recv())
        hub.server.settle({"ev": "applied", "id": "a", "op": "set", "ok": False, "error": "too late"})
        assert not client.poll(100), "the first answer stands"
    assert (answer["s"], answer["step"], answer["old"], answer["new"]) == ("applied", 4, 1, 2)
    assert "error" not in answer


# --- a hub that follows another ---------------------------------------------------------------------------------------------------


def test_the_trainer_goes_over_to_the_hub_that_follows_and_an_id_is_given_out_once(tmp_path: Path) -> None:
    first = Hub(tmp_path)
    trainer = trainer_of(tmp_path)
    HubClient(tmp_path).send("save", id="answered")
    HubClient(tmp_path).send("set", id="being-worked-on")
    taken: list[str] = []
    until(lambda: taken.extend(command["id"] for command in trainer.take()) or len(taken) == 2)
    first.close(leaving_all=True)
    trainer.reply("answered", True, step=3)  # nobody is there to hear it
    known = [{"ev": "command", "id": name, "op": "save", "args": {}, "by": "ana"} for name in ("answered", "being-worked-on", "new")]
    second = Hub(tmp_path, known)
    try:
        answer = until(
            lambda: (found := HubClient(tmp_path).send("save", id="answered", until="applied", wait_s=1))["s"] == "applied" and found
        )
        assert answer["step"] == 3
        assert [command["id"] for command in until(trainer.take)] == ["new"], "what it was given before is not given again"
        trainer.reply("being-worked-on", True, step=4)
        assert HubClient(tmp_path).send("set", id="being-worked-on", until="applied")["step"] == 4
        assert [fields["id"] for ev, fields in second.events if ev == "command"] == []
    finally:
        trainer.close()
        second.close()


def test_a_hub_that_follows_knows_what_was_answered_and_does_not_send_it_again(tmp_path: Path) -> None:
    known = [
        {"ev": "command", "id": "done", "op": "save", "args": {}, "by": "ana"},
        {"ev": "command", "id": "refused", "op": "evaluate", "args": {}, "by": "ana"},
        {"ev": "command", "id": "waits", "op": "stop", "args": {"save": False}, "by": "ana"},
        {"ev": "applied", "id": "done", "op": "save", "step": 7, "ok": True},
        {"ev": "applied", "id": "refused", "op": "evaluate", "step": 8, "ok": False, "error": "no evaluation data"},
        {"ev": "applied", "id": "never-heard-of", "op": "save", "ok": True},
    ]
    hub = Hub(tmp_path, known)
    trainer = trainer_of(tmp_path)
    try:
        (command,) = until(trainer.take)
        assert (command["id"], command["op"], command["args"], command["by"]) == ("waits", "stop", {"save": False}, "ana")
        assert HubClient(tmp_path).send("save", id="done")["step"] == 7
        assert HubClient(tmp_path).send("evaluate", id="refused")["error"] == "no evaluation data"
        assert hub.events == []
    finally:
        trainer.close()
        hub.close()


def test_what_waits_is_offered_to_the_hub_again_when_a_trainer_has_left(hub: Hub) -> None:
    with dealer(hub.connection.hub) as client:
        assert ask(client, k="cmd", v=VERSION, id="a", op="save")["s"] == "queued"
        assert ask(client, k="cmd", v=VERSION, id="b", op="resume")["s"] == "queued"
    hub._ending.set()
    hub._thread.join(5)
    hub.server._carry_out = lambda command: {"note": "here"} if command["op"] == "resume" else None
    hub.server.trainer_left()
    assert [(fields["id"], fields["ok"]) for ev, fields in hub.events if ev == "applied"] == [("b", True)]
    assert [command.message["id"] for command in hub.server._waiting()] == ["a"], "it waits for the next trainer"


def test_what_waits_when_the_trainer_ends_is_answered_for_it(hub: Hub) -> None:
    with dealer(hub.connection.hub) as client:
        assert ask(client, k="cmd", v=VERSION, id="a", op="save")["s"] == "queued"
        assert ask(client, k="cmd", v=VERSION, id="b", op="stop")["s"] == "queued"
    hub._ending.set()
    hub._thread.join(5)
    hub.server.trainer_gone()
    assert [(fields["id"], fields["ok"]) for ev, fields in hub.events if ev == "applied"] == [("a", False), ("b", True)]


def test_a_client_in_another_place_leaves_a_file_and_gets_the_answer_beside_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster's other node: the socket of connection.json is not on this host."""
    write_connection(hub.run / "connection.json", Connection("ipc:///nowhere", "ipc:///nowhere", "t", "another-box"))
    answer = HubClient(hub.run).send("stop", id="far", wait_s=0.2)
    assert (answer["s"], answer["via"]) == ("queued", "file")
    assert "another-box" in answer["note"]
    (left,) = (hub.run / "commands").glob("*.json")
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    assert decode(left.read_bytes())["id"] == "far"
