"""Signals to the trainer: the first asks it to save and end, the second ends it, a hang-up is nothing."""

import os
import signal
import subprocess
import sys

import pytest

CODE = """
import os, signal, sys
from tuitune.trainer.stop import StopRequest
stop = StopRequest()
stop.listen_to_signals()
if os.environ.get("BEGUN", "1") == "1":
    stop.begin()
for name in sys.argv[1:]:
    os.kill(os.getpid(), getattr(signal, name))
print(stop.asked, stop.save, stop.why)
"""


def after(*signals: str, begun: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BEGUN": str(int(begun))}
    command = [sys.executable, "-c", CODE, *signals]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=environment)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_the_first_signal_asks_for_a_saved_end(name: str) -> None:
    done = after(name)
    assert (done.returncode, done.stdout.strip()) == (0, f"True True {name}")


def test_before_training_has_begun_there_is_nothing_to_wait_for() -> None:
    assert "StopNow" in after("SIGTERM", begun=False).stderr


def test_the_second_signal_aborts() -> None:
    assert after("SIGINT", "SIGINT").returncode == -signal.SIGINT
    assert after("SIGINT", "SIGTERM").returncode == -signal.SIGTERM


def test_a_hang_up_is_nothing_to_a_run() -> None:
    done = after("SIGHUP", "SIGHUP")
    assert (done.returncode, done.stdout.strip()) == (0, "False True")


def test_the_trainer_listens_before_it_loads_the_torch_stack() -> None:
    code = "import sys, tuitune.trainer.__main__; print(sorted({'torch', 'numpy', 'transformers', 'trl'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
