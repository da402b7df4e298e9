"""What is leaned on of torchrun: the exit codes in its ChildFailedError, their order, and how long it leaves the others after a failure."""

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.runs import ROOT, new_run
from tuitune.hub.torchrun import environment, torchrun
from tuitune.runs.directory import RunDirectory
from tuitune.runs.resume import ends_of

pytest.importorskip("torch")

ONE_IS_KILLED = """
import os, signal, sys, time
if os.environ["RANK"] == "1":
    os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as one that waits in NCCL
time.sleep(300)
"""


ONE_FAILS_WHILE_ALL_SAVE = """
import os, signal, sys, time
from pathlib import Path
def save(*_):
    if os.environ["RANK"] == "1":
        sys.exit(1)
    time.sleep(300)  # as one that waits for its peer in NCCL
signal.signal(signal.SIGTERM, save)
Path(sys.argv[1], os.environ["RANK"]).touch()
time.sleep(300)
"""

ALL_SAVE = """
import os, signal, sys, time
from pathlib import Path
def save(*_):
    time.sleep(3 if os.environ["RANK"] == "0" else 0)  # longer than the others may be alone, and nobody has failed
    Path(sys.argv[1], "saved" + os.environ["RANK"]).touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
Path(sys.argv[1], os.environ["RANK"]).touch()
time.sleep(300)
"""

LAUNCHER = """
import sys
from tuitune.trainer import torchrun
torchrun.wait_less.__defaults__ = ({alone},)
sys.exit(torchrun.main(sys.argv[1:]))
"""


def started(tmp_path: Path, script: str, *, alone: float = 60.0) -> "tuple[subprocess.Popen[bytes], RunDirectory]":
    """torchrun with two processes of this script (its argument: a folder for its marks) and a run; returns when both have begun."""
    run = new_run(tmp_path, "task: sft\n")
    (tmp_path / "the_script.py").write_text(script)
    (tmp_path / "launcher.py").write_text(LAUNCHER.format(alone=alone))
    command = torchrun([sys.executable, "-m", "the_script", str(tmp_path)], 2)
    command[command.index("tuitune.trainer.torchrun")] = "launcher"
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment(2), "PYTHONPATH": path, "TUITUNE_RUN": str(run.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while not ((tmp_path / "0").exists() and (tmp_path / "1").exists()):
        assert time.monotonic() < deadline, "the processes did not begin"
        time.sleep(0.05)
    return process, run


def test_when_one_fails_while_all_save_after_a_sigterm_the_others_have_a_deadline_that_is_told(tmp_path: Path) -> None:
    """Without it torchrun waits SAVE_S, half an hour, for a process that waits for a dead one."""
    process, run = started(tmp_path, ONE_FAILS_WHILE_ALL_SAVE, alone=1.0)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert time.monotonic() - begin < 30
    assert b"failed with exit code 1 while all were to save and end: the others have 1 s to write what they have begun" in words
    told = json.loads(ends_of(run, 1).read_bytes())["ends"]
    assert [(end["rank"], end["exitcode"]) for end in told] == [(1, 1), (0, -signal.SIGKILL)]


def test_a_save_after_a_sigterm_may_take_longer_than_that_while_nobody_has_failed(tmp_path: Path) -> None:
    process, run = started(tmp_path, ALL_SAVE, alone=0.5)
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert (tmp_path / "saved0").exists()
    assert b"failed" not in words
    assert not ends_of(run, 1).exists(), "nobody failed"


def test_the_process_that_failed_is_named_before_one_that_torchrun_had_to_kill(tmp_path: Path) -> None:
    run = new_run(tmp_path, "task: sft\n")
    (tmp_path / "one_is_killed.py").write_text(ONE_IS_KILLED)
    command = torchrun([sys.executable, "-m", "one_is_killed", "x"], 2)
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    ended = subprocess.run(
        command, env={**os.environ, **environment(2), "PYTHONPATH": path, "TUITUNE_RUN": str(run.path)}, capture_output=True, timeout=120
    )
    assert ended.returncode == 1
    told = json.loads(ends_of(run, 1).read_bytes())["ends"]
    assert [(end["rank"], end["exitcode"]) for end in told] == [(1, -9), (0, -9)]
    assert b"====" not in ended.stderr


def test_torchrun_closes_without_a_limit_after_a_failure_and_with_its_shutdown_timeout_when_it_was_told_to_end() -> None:
    from torch.distributed.elastic.agent.server.api import SimpleElasticAgent
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing.api import PContext, SubprocessContext

    assert list(inspect.signature(PContext.close).parameters) == ["self", "death_sig", "timeout"]
    assert "close" not in vars(SubprocessContext), "ours hides PContext's"
    assert "self.close()" in inspect.getsource(SubprocessContext._poll)
    assert "self._shutdown(e.sigval, timeout=self._shutdown_timeout)" in inspect.getsource(SimpleElasticAgent.run)
    assert "self._pcontext.close(death_sig, timeout)" in inspect.getsource(LocalElasticAgent._shutdown)
