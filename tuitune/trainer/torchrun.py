"""`python -m tuitune.trainer.torchrun OPTIONS -m MODULE ARGUMENTS`: torchrun itself, which also tells the hub which process ended how.

What it prints of a failure is a table in a frame, meant for a person who looks for it; what it knows is in its ChildFailedError. That goes
to log/<attempt>.ends.json (tuitune.hub.ranks reads it): {"ends": [{"rank", "exitcode" (negative: a signal), "pid"}, …]}, those that had
ended by themselves before those that torchrun ended because of them. Imports torch.
"""

import json
import os
import signal
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import PContext, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from tuitune.files import write_atomically
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest
from tuitune.runs.resume import ends_of

GRACE_S = 3  # seconds that the others have to end when one of them has failed


def main(arguments: list[str]) -> int:
    """Run torchrun; its exit code. Told to end by a signal it ends by that signal, when its processes have."""
    be_impatient()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])  # a hang-up is nothing to a run; torchrun would end it
    try:
        torchrun(arguments)
    except SignalException as told:
        signal.signal(told.sigval, signal.SIG_DFL)
        signal.raise_signal(told.sigval)
    except ChildFailedError as failed:
        ends = [{"rank": rank, "exitcode": failure.exitcode, "pid": failure.pid} for rank, failure in failed.failures.items()]
        for end in ends:
            sys.stderr.write(f"rank {end['rank']} (pid {end['pid']}) ended with exit code {end['exitcode']}\n")
        run = RunDirectory(Path(os.environ["TUITUNE_RUN"]))
        write_atomically(ends_of(run, read_manifest(run).attempt), json.dumps({"ends": ends}), mode=0o600)
        return 1
    return 0


def be_impatient() -> None:
    """Leave the others GRACE_S after a failure, not 30 s: what they compute next they compute together, so they cannot save, and one that
    waits for its peer in NCCL does not even hear the SIGTERM. A SIGTERM from outside has a limit of its own (tuitune.hub.torchrun.SAVE_S).
    torchrun has no option for this; it calls `close` without a limit when one has failed, and only then."""
    if PContext.close.__defaults__ == (None, 30):  # else it is another torchrun than the tests know, and keeps its own limit
        PContext.close.__defaults__ = (None, GRACE_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
