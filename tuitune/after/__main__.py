"""`python -m tuitune.after RUN`: the process of a job. Started by the job's hub.

Exit code 0: done, or stopped as asked. 1: failed; a UserError is one sentence (also in the `end` event), anything else a traceback.
"""

import atexit
import faulthandler
import importlib
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from tuitune.after.job import Job
from tuitune.bus.journal import Journal
from tuitune.bus.trainer_link import TrainerLink
from tuitune.errors import UserError
from tuitune.hub.lease import ROOM
from tuitune.memory.allocator import choose
from tuitune.memory.settings import Device
from tuitune.network import settle_network
from tuitune.runs.directory import RunDirectory
from tuitune.runs.hello import this_process
from tuitune.runs.manifest import read_manifest
from tuitune.secrets import mask_streams
from tuitune.trainer.checkpoints import DISK
from tuitune.trainer.stop import StopNow, StopRequest

# Each module has `run(job) -> result` and may have OPS, the commands it takes besides `stop`.
MODULES = {
    "chat": "tuitune.after.chat",
    "eval": "tuitune.after.evaluate",
    "merge": "tuitune.after.merge",
    "export": "tuitune.after.export",
    "push": "tuitune.after.push",
    "sweep": "tuitune.after.sweep",
}


def main(path: Path) -> int:
    """Do the job of the run at `path`."""
    mask_streams()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    choose(os.environ)
    stop = StopRequest()
    stop.listen_to_signals()
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)  # the hub asks for the stacks when nothing moves
    run = RunDirectory(path.resolve())
    try:
        manifest = read_manifest(run)
        journal = Journal(run.journal / f"trainer-{manifest.attempt}.jsonl")
    except (UserError, OSError) as error:  # without a journal the sentence on stderr is all there can be
        sys.stderr.write(f"{error}\n")
        return 1
    journal.emit("state", s="loading", why="loading the libraries")
    job = Job(run, manifest.kind, manifest.job, journal, TrainerLink(run.path), stop, Path(manifest.workspace or "."))
    try:
        if "hub" in job.args and (unreachable := settle_network(job.args["hub"])):
            job.warn(unreachable)
        module = _module(manifest.kind)
        _keep_to_room(os.environ.get(ROOM))
        job.ops = tuple(getattr(module, "OPS", ()))
        job.link.start()
        _hello(job)
        job.start_heartbeat()
        result = module.run(job)
    except StopNow:
        return _end(job, "stopped", None, f"{stop.why} while it loaded")
    except UserError as error:
        return _failed(job, str(error))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK:
            return _failed(job, f"{error.filename or run.path}: cannot be written ({error.strerror}); make room and start it again")
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which this module does not import
            traceback.print_exc()
            return _failed(
                job, f"the GPU's memory ran out during this {job.kind}: close what else lies there, load in 4 bits, or use the CPU"
            )
        traceback.print_exc()
        return 1
    return _end(job, "stopped" if stop.asked else "done", result, stop.why or None)


def _module(kind: str) -> Any:
    """The module of a kind of job; its imports (torch) take seconds. UserError for a kind that this version does not know."""
    if kind not in MODULES:
        raise UserError(f"this tuitune knows no job {kind!r}: use the version that started it")
    return importlib.import_module(MODULES[kind])


def _keep_to_room(room: str | None) -> None:
    """On a card that another run has (`room`: bytes that are not its): what would take more runs out of memory itself, in torch, where
    batches are halved; the other run never does."""
    if room is None:
        return
    import torch

    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, max(0, int(room) - Device().context) / total))


def _hello(job: Job) -> None:
    caps = [{"name": name, "effect": "now"} for name in ("stop", *job.ops)]
    job.emit("hello", **this_process(), kind=job.kind, caps=caps)


def _end(job: Job, state: str, result: dict[str, Any] | None, why: str | None) -> int:
    job.state(state, why)
    job.emit("end", reason=state, result=result)
    job.close()
    return 0


def _failed(job: Job, sentence: str) -> int:
    job.emit("state", s="failed", why=sentence)
    job.emit("end", reason="failed", error=sentence)
    job.close()
    sys.stderr.write(f"{sentence}\n")
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tuitune.after RUN_DIRECTORY (tuitune chat, eval, merge … make one)")
    code = main(Path(sys.argv[1]))
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(
        code
    )  # all is told; native libraries that abort while they leave must not make it look like a breakdown (as in tuitune.trainer)
