"""Another user of the box can neither read a run nor command it (only root can try: it becomes that user)."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.living_hub import LivingHub, until
from tuitune.bus.client import HubClient
from tuitune.bus.sockets import read_connection
from tuitune.runs.manifest import read_manifest

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")

STRANGER = """
import json, os, sys
sys.path[:0] = json.loads(sys.argv[2])
import zmq
from pathlib import Path
from tuitune.bus.client import HubClient
from tuitune.bus.envelope import encode
from tuitune.errors import UserError
os.setgroups([]); os.setgid(65534); os.setuid(65534)
run, endpoints = Path(sys.argv[1]), sys.argv[3:]
found = {}

def attempt(name, do):
    try:
        found[name] = str(do())
    except (OSError, UserError) as error:
        found[name] = type(error).__name__

def ask(endpoint):
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(endpoint)
        dealer.send(encode({"k": "cmd", "v": 1, "id": "x", "op": "kill"}))
        return "answered" if dealer.poll(700) else "no answer"

attempt("list", lambda: os.listdir(run))
for name in ("manifest.json", "recipe.yaml", "connection.json", "journal/hub.jsonl", "journal/trainer-1.jsonl", "log/1.rank0.txt"):
    attempt(name, lambda: (run / name).read_bytes())
attempt("command file", lambda: (run / "commands" / "x.json").write_text("{}"))
attempt("sockets", lambda: os.listdir(Path(endpoints[0].removeprefix("ipc://")).parent))
attempt("send", lambda: HubClient(run).send("kill", wait_s=1))
attempt("lock", lambda: open(run / "hub.lock", "w"))
attempt("hub", lambda: ask(endpoints[0]))
attempt("trainer", lambda: ask(endpoints[1]))
print(json.dumps(found))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter: what keeps strangers out is the run's own doing."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_another_user_can_neither_read_a_run_nor_command_it(open_folder: Path) -> None:
    one = LivingHub(open_folder / "runs", "long")
    try:
        until(one.running)
        connection = read_connection(one.run.connection)
        assert connection is not None
        assert (open_folder / "runs").stat().st_mode & 0o005 == 0o005, "he gets as far as the run's door"
        words = [sys.executable, "-c", STRANGER, str(one.run.path), json.dumps(sys.path), connection.hub, connection.trainer]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, cwd=open_folder)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found.pop("send") == "UserError"
        assert (found.pop("hub"), found.pop("trainer")) == ("no answer", "no answer")
        assert set(found.values()) == {"PermissionError"}, found
        assert one.process.poll() is None
        assert one.records("command") == []
        assert HubClient(one.run.path).send("stop")["s"] == "queued", "the same from its own user is taken"
        assert one.process.wait(20) == 0
        assert read_manifest(one.run).state == "stopped"
    finally:
        one.end()
