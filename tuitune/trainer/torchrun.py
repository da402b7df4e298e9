"""`python -m tuitune.trainer.torchrun OPTIONS -m MODULE ARGUMENTS`: torchrun itself, which also tells the hub which process ended how.

What it prints of a failure is a table in a frame, meant for a person who looks for it; what it knows is in its ChildFailedError. That goes
to log/<attempt>.ends.json (tuitune.hub.ranks reads it): {"ends": [{"rank", "exitcode" (negative: a signal), "pid"}, …]}, those that had
ended by themselves before those that torchrun ended because of them. Imports torch.

It also shortens two waits of torchrun's. When one process has failed, the others compute nothing any more without it: they have GRACE_S.
When it was told to end by a signal, all of them save, which may take long (tuitune.hub.torchrun.SAVE_S); but once one fails in that time,
the others have ALONE_S: enough for a save that the first one has begun to write, and no half hour for those that wait for a dead one.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException, SubprocessContext
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from tuitune.files import write_atomically
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest
from tuitune.runs.resume import ends_of
from tuitune.trainer.other_nodes import OtherNodes, command_for_others, this_node

GRACE_S = 3  # seconds; one that waits for its peer in NCCL does not even hear the SIGTERM
ALONE_S = 60.0
LOOK_S = 0.2  # between two looks at who still lives


def main(arguments: list[str]) -> int:
    """Run torchrun; its exit code. Told to end by a signal it ends by that signal, when its processes have."""
    ends = wait_less()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])  # a hang-up is nothing to a run; torchrun would end it
    others, (node, arguments) = OtherNodes(command_for_others(arguments)), this_node(arguments)
    try:
        torchrun(arguments)
    except SignalException as told:
        others.leave(failed=False)
        if any(end["exitcode"] not in (0, -told.sigval) for end in ends):
            _tell(ends, node)
        signal.signal(told.sigval, signal.SIG_DFL)
        signal.raise_signal(told.sigval)
    except ChildFailedError as failed:
        others.leave(failed=True)
        if not others.lost:  # else these ended because of those, which tell it themselves
            _tell([_end(rank, failure.exitcode, failure.pid) for rank, failure in failed.failures.items()], node)
        return 1
    others.leave(failed=False)
    return 0


def _end(rank: int, exitcode: int, pid: int) -> dict[str, int]:
    return {"rank": rank, "exitcode": exitcode, "pid": pid}


def _tell(ends: list[dict[str, int]], node: int) -> None:
    for end in ends:
        sys.stderr.write(f"rank {end['rank']} (pid {end['pid']}) ended with exit code {end['exitcode']}\n")
    run = RunDirectory(Path(os.environ["TUITUNE_RUN"]))
    write_atomically(ends_of(run, read_manifest(run).attempt, node), json.dumps({"ends": ends}), mode=0o600)


def wait_less(alone: float = ALONE_S) -> list[dict[str, int]]:
    """Have torchrun wait as this module says; `alone`: seconds, in place of ALONE_S. The list it returns fills with who ended how, in that
    order, when a signal has told torchrun to end. torchrun has no option for either: it calls `close` without a limit when a process has
    failed, and with its shutdown timeout when it was told to end (tests/contract/test_torchrun.py)."""
    ends: list[dict[str, int]] = []
    plain = SubprocessContext.close

    def close(self: Any, death_sig: signal.Signals | None = None, timeout: float | None = None) -> None:
        if timeout is not None and death_sig is not None:
            _wait_for_all(self, death_sig, timeout, alone, ends)
            death_sig = signal.SIGKILL  # who has not ended by now has been told, and a second SIGTERM would say the same
        plain(self, death_sig, GRACE_S)
        _note_ends(self, ends)

    SubprocessContext.close = close  # type: ignore[method-assign,assignment]
    return ends


def _wait_for_all(context: Any, death_sig: signal.Signals, limit: float, alone: float, ends: list[dict[str, int]]) -> None:
    """Pass the signal on, and return when all have ended, or after `limit` seconds, or `alone` seconds after the first that failed."""
    for handler in context.subprocess_handlers.values():
        if handler.proc.poll() is None:
            handler.close(death_sig=death_sig)
    deadline, told = time.monotonic() + limit, False
    while _note_ends(context, ends) and time.monotonic() < deadline:
        failed = next((end for end in ends if end["exitcode"]), None)
        if failed and not told:
            told, deadline = True, min(deadline, time.monotonic() + alone)
            how = f"rank {failed['rank']} (pid {failed['pid']}) failed with exit code {failed['exitcode']} while all were to save and end"
            sys.stderr.write(f"{how}: the others have {alone:.0f} s to write what they have begun, then they are killed\n")
        time.sleep(LOOK_S)


def _note_ends(context: Any, ends: list[dict[str, int]]) -> int:
    """Add those that have ended since the last look; how many still live."""
    known, living = {end["pid"] for end in ends}, 0
    for local, handler in context.subprocess_handlers.items():
        code = handler.proc.poll()
        living += code is None
        if code is not None and handler.proc.pid not in known:
            ends.append(_end(int(context.envs[local]["RANK"]), code, handler.proc.pid))
    return living


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
