"""A run of several processes by torchrun under a real hub: on the CPU (gloo) a box without GPUs starts two all the same."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.living_hub import until
from tests.support.runs import ONE_THREAD, ROOT
from tuitune.bus.client import HubClient
from tuitune.bus.journal import JournalTail
from tuitune.bus.sockets import remove_sockets
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest

AS_LEASED = (
    "import sys; from pathlib import Path; from tuitune.hub import torchrun; from tuitune.hub.supervisor import supervise;"
    "sys.exit(supervise(Path(sys.argv[1]), [sys.executable, '-P', '-m', 'tests.support.ranked_trainer', sys.argv[1]]))"
)
TWO_ON_THE_CPU = AS_LEASED.replace(
    "sys.exit",
    "one, several = torchrun.torchrun, torchrun.environment;"
    "torchrun.torchrun, torchrun.environment = lambda command, *_: one(command, 2), lambda *_: several(2);sys.exit",
)


class TwoRanks:
    """A run of two processes and its hub; with `leased` as many as its recipe says. `patience`: seconds for an answer. `environment`: what
    the hub has beside this process's."""

    patience = 60.0

    def __init__(self, run: RunDirectory, *, leased: bool = False, environment: Mapping[str, str] | None = None) -> None:
        self.run, self.leased, self.environment = run, leased, environment or {}
        self.start_hub()

    def start_hub(self) -> None:
        """The run's first hub, or the next one."""
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": path,
            **({} if self.leased else {**ONE_THREAD, "TUITUNE_FSDP_ON_CPU": "1"}),
            **self.environment,
        }
        command = [sys.executable, "-c", AS_LEASED if self.leased else TWO_ON_THE_CPU, str(self.run.path)]
        self.hub = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)

    def records(self, event: str) -> list[dict[str, Any]]:
        """Of the journals so far."""
        return [record for record in JournalTail(self.run.journal).poll() if record["ev"] == event]

    def order(self, op: str, **arguments: Any) -> dict[str, Any]:
        """What became of a command."""
        return HubClient(self.run.path).send(op, arguments, until="applied", wait_s=self.patience)

    def wait_for_step(self, step: int) -> None:
        """Until that step is logged."""
        until(lambda: any(record["step"] >= step for record in self.records("metrics")), 120)

    def workers(self) -> list[int]:
        """The pids of torchrun's processes."""
        torchrun = read_manifest(self.run).trainer
        assert torchrun is not None
        return [int(pid) for pid in Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()]

    def rank(self, number: int) -> int:
        """The pid of the process that has this rank."""
        wanted = f"RANK={number}".encode()
        return next(pid for pid in self.workers() if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))

    def end(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Wait until it is over; what the two ranks have come to."""
        self.hub.wait(180)
        first, second = self.told()
        return first, second

    def told(self) -> list[dict[str, Any]]:
        """What each rank has left that came to the end, in their order."""
        return [json.loads(file.read_text()) for file in sorted(self.run.path.glob("rank-*.json"))]

    def close(self) -> None:
        """Leave nothing behind."""
        trainer = read_manifest(self.run).trainer
        self.hub.kill()
        self.hub.wait()
        if trainer and trainer.alive():
            os.killpg(trainer.pid, signal.SIGKILL)
        remove_sockets(self.run.path)
