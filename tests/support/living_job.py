"""A job with a real hub and its real process, over a stand-in kind (stand_in_job.py)."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.living_hub import ROOT, until
from tuitune.bus.client import HubClient
from tuitune.bus.journal import JournalTail
from tuitune.bus.sockets import remove_sockets
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.manifest import Manifest, read_manifest, write_manifest

SUPERVISE = """
import sys
from pathlib import Path
from tuitune.hub.supervisor import supervise
code = "import sys; from pathlib import Path; from tuitune.after import __main__ as m; m.MODULES[sys.argv[2]] = sys.argv[3];"
command = [sys.executable, "-c", code + "sys.exit(m.main(Path(sys.argv[1])))", sys.argv[1], sys.argv[2], sys.argv[3]]
sys.exit(supervise(Path(sys.argv[1]), command))
"""


class LivingJob:
    """A job, its hub and what they tell."""

    def __init__(self, root: Path, args: dict[str, Any], kind: str = "eval", module: str = "tests.support.stand_in_job") -> None:
        self.run: RunDirectory = create_run(root / "runs", f"{kind}-demo", "launch: {gpus: cpu}\n")
        write_manifest(self.run, Manifest(f"{kind}-demo", workspace=str(root), kind=kind, job=args))
        command = [sys.executable, "-c", SUPERVISE, str(self.run.path), kind, module]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)

    def records(self, ev: str) -> list[dict[str, Any]]:
        """All records of one type so far."""
        return [record for record in JournalTail(self.run.journal).poll() if record["ev"] == ev]

    def reaches(self, state: str) -> None:
        """Wait until the manifest says so."""
        until(lambda: read_manifest(self.run).state == state, 60)

    def send(self, op: str, **args: Any) -> dict[str, Any]:
        """A command and its answer by the job itself."""
        return HubClient(self.run.path).send(op, args, until="applied", wait_s=60)

    def ends(self) -> Manifest:
        """Wait for the end; the manifest then."""
        self.process.wait(60)
        return read_manifest(self.run)


@contextmanager
def living_job(root: Path, args: dict[str, Any], **options: Any) -> Iterator[LivingJob]:
    """A job that is gone afterwards."""
    job = LivingJob(root, args, **options)
    try:
        yield job
    finally:
        manifest = read_manifest(job.run)
        for process in (manifest.trainer,):
            if process and process.alive():
                subprocess.run(["kill", "-9", str(process.pid)], check=False)
        job.process.kill()
        job.process.wait()
        remove_sockets(job.run.path)
