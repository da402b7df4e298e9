"""What is leaned on of torchrun: the exit codes in its ChildFailedError, their order, and how long it leaves the others after a failure."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.runs import ROOT, new_run
from tuitune.hub.torchrun import environment, torchrun
from tuitune.runs.resume import ends_of

pytest.importorskip("torch")

ONE_IS_KILLED = """
import os, signal, sys, time
if os.environ["RANK"] == "1":
    os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as one that waits in NCCL
time.sleep(300)
"""


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


def test_torchrun_leaves_its_limit_after_a_failure_to_the_default_of_close_and_that_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.elastic.agent.server.api import SimpleElasticAgent
    from torch.distributed.elastic.multiprocessing.api import PContext, SubprocessContext

    from tuitune.trainer.torchrun import GRACE_S, be_impatient

    defaults = PContext.close.__defaults__
    assert defaults == (None, 30)
    assert list(inspect.signature(PContext.close).parameters) == ["self", "death_sig", "timeout"]
    assert "self.close()" in inspect.getsource(SubprocessContext._poll)
    assert "timeout=self._shutdown_timeout" in inspect.getsource(SimpleElasticAgent.run), "a SIGTERM from outside has its own limit"
    monkeypatch.setattr(PContext.close, "__defaults__", defaults)
    be_impatient()
    assert inspect.signature(PContext.close).parameters["timeout"].default == GRACE_S
