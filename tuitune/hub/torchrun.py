"""How a trainer of several processes is started: torchrun, with the same entry and the same run directory, one process a GPU.

torchrun (run by tuitune.trainer.torchrun) is the trainer's process for the hub: it passes SIGTERM on and ends with its workers. Those have
sessions of their own, so they end by the kernel's word when torchrun is killed (tuitune.trainer.ranks.end_with_parent).
"""

import os
import secrets
from collections.abc import Sequence

SAVE_S = 1800  # seconds that torchrun leaves its processes to save after a SIGTERM; its 30 would cut a large checkpoint off


def torchrun(command: Sequence[str], processes: int) -> list[str]:
    """`command` (python … -m MODULE ARGUMENTS) for one process, the same through torchrun for several."""
    if processes < 2:
        return list(command)
    at = command.index("-m")
    launcher = ["-m", "tuitune.trainer.torchrun", "--standalone", f"--nproc_per_node={processes}"]
    return [*command[:at], *launcher, *command[at:]]


def environment(processes: int) -> dict[str, str]:
    """What the processes need beside what one does: a key of their own to tell each other orders with, and NCCL's words when it hangs."""
    if processes < 2:
        return {}
    return {
        "PYTHONSAFEPATH": "1",  # torchrun starts its processes without our -P
        "TUITUNE_RANKS_KEY": secrets.token_hex(32),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SAVE_S),
        "TORCH_NCCL_TRACE_BUFFER_SIZE": "2000",  # the last collectives of each rank, written when one of them times out
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),  # as torchrun would set it, without its warning
    }
