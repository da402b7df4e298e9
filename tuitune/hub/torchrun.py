"""How a trainer of several processes is started: torchrun, with the same entry and the same run directory, one process a GPU.

torchrun (run by tuitune.trainer.torchrun) is the trainer's process for the hub: it passes SIGTERM on and ends with its workers. Those have
sessions of their own, so they end by the kernel's word when torchrun is killed (tuitune.trainer.ranks.end_with_parent).

Several machines (`launch.nodes`) are those of a SLURM job: the hub and the torchrun that it starts are on the first one, and that starts
one on each other machine by srun. The rendezvous is torchrun's static one, because the first machine must have rank 0, which writes the
journal and hears the hub: the c10d one numbers machines by their names.
"""

import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuitune.errors import UserError
from tuitune.recipe.strategy import nodes_of

SAVE_S = 1800  # seconds that torchrun leaves its processes to save after a SIGTERM; its 30 would cut a large checkpoint off


@dataclass(frozen=True)
class Nodes:
    """The machines of a run: how many, and where the processes meet, a port of the first one, this."""

    count: int
    host: str
    port: int


def nodes_here(launch: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Nodes | None:
    """The machines that `launch.nodes` asks for; None for one. UserError when this is no SLURM job, or one of fewer machines."""
    count = nodes_of(launch)
    if count < 2:
        return None
    there = environment.get("SLURM_JOB_NUM_NODES", "")
    if not there.isdecimal():
        raise UserError(f"launch.nodes: {count}: several machines are those of a SLURM job: tuitune slurm RECIPE > job.sh; sbatch job.sh")
    if int(there) < count:
        raise UserError(f"launch.nodes: {count}: this SLURM job has {there}; write a new script (tuitune slurm RECIPE), or nodes: {there}")
    host = environment.get("SLURMD_NODENAME") or socket.gethostname()
    with socket.socket() as free:
        free.bind(("", 0))
        return Nodes(count, host, free.getsockname()[1])


def torchrun(command: Sequence[str], processes: int, nodes: Nodes | None = None) -> list[str]:
    """`command` (python … -m MODULE ARGUMENTS) for one process, the same through torchrun for several. processes: on each machine."""
    if processes < 2 and nodes is None:
        return list(command)
    at = command.index("-m")
    meeting = ["--standalone"]
    if nodes is not None:
        meeting = [f"--nnodes={nodes.count}", "--node-rank=0", f"--master-addr={nodes.host}", f"--master-port={nodes.port}"]
    launcher = ["-m", "tuitune.trainer.torchrun", *meeting, f"--nproc_per_node={max(1, processes)}"]
    return [*command[:at], *launcher, *command[at:]]


def environment(processes: int, nodes: Nodes | None = None) -> dict[str, str]:
    """What the processes need beside what one does: a key of their own to tell each other orders with, and NCCL's words when it hangs."""
    if processes < 2 and nodes is None:
        return {}
    return {
        "PYTHONSAFEPATH": "1",  # torchrun starts its processes without our -P
        "TUITUNE_RANKS_KEY": secrets.token_hex(32),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SAVE_S),
        "TORCH_NCCL_TRACE_BUFFER_SIZE": "2000",  # the last collectives of each rank, written when one of them times out
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),  # as torchrun would set it, without its warning
    }
