"""The GPUs that a hub holds for the trainers of its run: taken before the first attempt, let go while it is suspended."""

import time
from collections.abc import Callable

from tuitune.errors import UserError
from tuitune.hub.gpu import GpuSampler
from tuitune.hub.lease import GpusTaken, Lease, take_lease
from tuitune.hub.record import RunRecord
from tuitune.hub.wishes import WITHOUT_GPU, section, wanted_gpus

WAIT_S = 2.0  # between looks for a free GPU


class Cards:
    """`lease` is None while the hub holds none; a trainer that was adopted has its own by the locks it inherited."""

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self.lease: Lease | None = None

    def take(self) -> Lease:
        """Take the cards that the recipe asks for, unless they are held. GpusTaken when others have them.

        A job whose arguments say what it needs (`gpu_bytes`) may share the card of another run that leaves so much of it free at its peak.
        """
        manifest = self.record.manifest
        if self.lease is None and manifest.kind in WITHOUT_GPU:
            self.lease = Lease([], [])
        if self.lease is None:
            gpu = GpuSampler()
            try:
                run, beside = self.record.run, manifest.job.get("gpu_bytes")
                self.lease = take_lease(wanted_gpus(run, manifest), gpu.sample()["devices"], run.path, beside=beside)
            finally:
                gpu.close()
            if self.lease.note:
                self.record.warn(self.lease.note)
        return self.lease

    def wait(self, on_wait: Callable[[], object], serve: Callable[[], object]) -> Lease:
        """The same; with `launch.wait` in the recipe, when others have let go of them. `on_wait` is called once when that takes time,
        `serve` again and again; what it raises ends the wait."""
        told = False
        while True:
            try:
                return self.take()
            except GpusTaken as taken:
                if section(self.record.run, "launch").get("wait") is not True:
                    raise _refused(taken, self.record.manifest.kind) from None
                if not told:
                    told = True
                    on_wait()
                    self.record.state("starting", f"waits for a GPU: {taken.holders}")
            due = time.monotonic() + WAIT_S
            while time.monotonic() < due:
                serve()

    def release(self) -> None:
        """Let the cards go."""
        if self.lease is not None:
            self.lease.release()
            self.lease = None


def _refused(taken: GpusTaken, kind: str) -> UserError:
    """The error for whoever asked: a job's place is chosen by an option, a run's by its recipe."""
    if kind == "train":
        return taken
    return UserError(
        f"other runs have the GPUs: {taken.holders}. Suspend one (tuitune send RUN pause mode=suspend), wait for its end, or use the CPU "
        "(--cpu)"
    )
