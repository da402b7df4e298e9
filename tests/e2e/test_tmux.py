"""The workbench inside tmux at 80x24, driven by the keys tmux sends."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Tmux:
    """A tmux server of its own with one window, and the workbench in it."""

    def __init__(self, folder: Path) -> None:
        self.name = f"tuitune-test-{os.getpid()}"
        home = folder.parent / "home"
        home.mkdir()
        self.env = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "XDG_CACHE_HOME": str(home / "cache")}
        self.env.pop("TMUX", None)
        self.call(
            "-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", shlex.join([sys.executable, "-m", "tuitune", str(folder)])
        )

    def call(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-L", self.name, *words], env=self.env, capture_output=True, text=True, timeout=90)
        return done.stdout

    def wait_for(self, wanted: str) -> str:
        deadline = time.monotonic() + 60
        while wanted not in (shown := self.call("capture-pane", "-p")):
            assert time.monotonic() < deadline, f"{wanted!r} never came:\n{shown}"
            time.sleep(0.05)
        return shown


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "demo.yaml").write_text("name: demo\ntask: sft\n")
    session = Tmux(folder)
    yield session
    session.call("kill-server")


def test_keys_colours_and_leaving(tmux: Tmux, tmp_path: Path) -> None:
    """Ctrl, function and Alt keys arrive; typing and saving work; Ctrl+Q ends it, and with it the only window."""
    tmux.wait_for("demo.yaml")
    tmux.call("send-keys", "C-p")
    tmux.wait_for("by name; ? for more")
    tmux.call("send-keys", "demo", "Enter")
    tmux.wait_for("task: sft")
    tmux.call("send-keys", "-l", "# typed in tmux")
    tmux.call("send-keys", "Enter")
    tmux.wait_for("# typed in tmux")
    tmux.call("send-keys", "C-s")
    deadline = time.monotonic() + 60
    while not (tmp_path / "work/demo.yaml").read_text().startswith("# typed in tmux\nname"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    tmux.call("send-keys", "F1")
    tmux.wait_for("Close tab")
    tmux.call("send-keys", "Escape")
    tmux.call("send-keys", "M-2")
    tmux.wait_for("No run in")
    assert "\x1b[" in tmux.call("capture-pane", "-p", "-e")
    tmux.call("send-keys", "C-q")
    while tmux.call("list-sessions"):
        assert time.monotonic() < deadline + 20
        time.sleep(0.05)
