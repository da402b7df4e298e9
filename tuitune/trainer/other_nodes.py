"""The other machines of a run: the first one's torchrun (tuitune.trainer.torchrun) starts theirs by srun, inside a SLURM job.

Static rendezvous tells no machine of another's end, so here they are watched: when one of them fails, the processes of this machine wait
for it in vain, without end under NCCL. They have LOST_S to fail of it themselves, then they are killed.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from tuitune.hub.trainer_process import ranks_of

FIRST, BY_SLURM = "--node-rank=0", "--node-rank=slurm"
LOST_S = 30.0  # a broken connection is an error at once; only one that hangs needs longer
LEAVE_S, FAILED_S = 60.0, 10.0  # seconds for the other machines to end, after this one has ended well or failed


def command_for_others(arguments: Sequence[str]) -> list[str]:
    """What the first machine starts beside its own torchrun of these arguments; empty on the others, and where there are none."""
    nodes = next((int(word.partition("=")[2]) for word in arguments if word.startswith("--nnodes=")), 1)
    if nodes < 2 or FIRST not in arguments:
        return []
    count = nodes - 1
    tasks = [f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1"]
    here = os.environ.get("SLURMD_NODENAME")
    tasks += [f"--exclude={here}"] if here else []
    same = [BY_SLURM if word == FIRST else word for word in arguments]
    return ["srun", *tasks, "--kill-on-bad-exit=1", "--input=none", sys.executable, "-m", "tuitune.trainer.torchrun", *same]


def this_node(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Which of the machines this is, and torchrun's arguments with its number in them."""
    node = int(os.environ["SLURM_PROCID"]) + 1 if BY_SLURM in arguments else 0
    return node, [f"--node-rank={node}" if word == BY_SLURM else word for word in arguments]


class OtherNodes:
    """Their torchruns, behind one srun. `lost`: one of them has failed before this machine's own processes ended."""

    def __init__(self, command: Sequence[str]) -> None:
        self.lost = False
        self._over = threading.Event()
        self._srun: subprocess.Popen[bytes] | None = None
        if command:
            environment = dict(os.environ)
            if environment.get("CUDA_VISIBLE_DEVICES"):
                del environment["CUDA_VISIBLE_DEVICES"]  # this machine's cards; SLURM says which are theirs
            self._srun = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
            threading.Thread(target=self._watch, args=(self._srun,), daemon=True).start()

    def _watch(self, srun: "subprocess.Popen[bytes]") -> None:
        if not srun.wait() or self._over.is_set():
            return
        self.lost = True
        words = f"the processes of another machine have failed (srun: exit code {srun.returncode})"
        sys.stderr.write(f"{words}: those of this one have {LOST_S:.0f} s to notice, then they are killed\n")
        if not self._over.wait(LOST_S):
            for pid in ranks_of(os.getpid()).values():
                os.kill(pid, signal.SIGKILL)

    def leave(self, *, failed: bool) -> None:
        """This machine's processes have ended: wait for the others, then end them."""
        self._over.set()
        if self._srun is None:
            return
        try:
            self._srun.wait(FAILED_S if failed else LEAVE_S)
        except subprocess.TimeoutExpired:
            self._srun.terminate()
