"""manifest.json: what a run is, whose processes it has and how it stands. Written by the launcher once, then by the hub alone.

A hub can be killed while its trainer goes on. Then nobody writes the manifest any more, and what the trainer's own journal says last
counts instead: `read_manifest` looks there by itself.
"""

import json
import math
import os
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import msgspec

from tuitune.bus.envelope import as_number
from tuitune.bus.journal import last_records
from tuitune.errors import UserError
from tuitune.files import write_atomically
from tuitune.runs.directory import RunDirectory

LIVING = frozenset({"starting", "loading", "running", "evaluating", "saving", "paused", "suspended", "stopping", "hung"})
ENDED = frozenset({"done", "stopped", "failed", "lost"})
LOST = "its hub and trainer are gone without a word: both were killed, or the box was restarted; tuitune resume makes the run go on"


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one of the same pid: `start_ticks` is field 22 of /proc/PID/stat."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now, or None."""
        ticks = _start_ticks(pid)
        return None if ticks is None else cls(pid, ticks)

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return _start_ticks(self.pid) == self.start_ticks


def _start_ticks(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # the second field is the name in parentheses, which may hold blanks and parentheses of its own
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


@dataclass
class Manifest:
    """Times are unix seconds, steps are optimizer steps, `host` is where the processes are.

    The hashes say what was trained on what: the source rows, the ids and labels made of them, the names of the trained weights, and the
    file with the reward functions where the task has one; None until the trainer has told them. `overridden`: ids of the preflight errors
    in spite of which the run was started.

    `resume_from` (a folder name in checkpoints/, None: the beginning) and `overrides` (section → key → value, laid over the recipe) are the
    present attempt's; the trainer obeys them. `passed_over`: why not from a later checkpoint, a sentence for each that was damaged after it
    was written. `retried`: how often the hub has started an attempt by itself, by kind of fault.
    `oom_kills`: the kernel's count when this attempt's trainer was started.

    `kind`: "train", or which job it is (chat, eval, merge, export, push, sweep); `job`: a job's arguments, plain JSON. Of a job `step` and
    `max_steps` are what it has done and what there is to do, in whatever it counts.
    """

    name: str
    created: float = field(default_factory=time.time)
    ended: float | None = None
    recipe_path: str = ""
    workspace: str = ""
    overridden: list[str] = field(default_factory=list)
    host: str = field(default_factory=lambda: os.uname().nodename)
    versions: dict[str, str | None] = field(default_factory=dict)
    attempt: int = 1
    resume_from: str | None = None
    passed_over: list[str] = field(default_factory=list)
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    retried: dict[str, int] = field(default_factory=dict)
    oom_kills: int = 0
    state: str = "starting"
    why: str | None = None
    step: int | None = None
    max_steps: int | None = None
    loss: float | None = None
    data_fingerprint: str | None = None
    data_sha256: str | None = None
    trainable_sha256: str | None = None
    rewards_sha256: str | None = None
    hub: Process | None = None
    trainer: Process | None = None
    kind: str = "train"
    job: dict[str, Any] = field(default_factory=dict)
    schema: int = 1

    def take(self, record: dict[str, Any]) -> None:
        """Bring step, loss, state and hashes up to date with a record of the trainer's journal; its `end` is the run's."""
        match record.get("ev"):
            case "state" if record.get("s") in LIVING:
                self.state = record["s"]
            case "data":
                self.data_fingerprint = _text(record.get("fingerprint"), self.data_fingerprint)
                self.data_sha256 = _text(record.get("sha256"), self.data_sha256)
                self.trainable_sha256 = _text(record.get("trainable_sha256"), self.trainable_sha256)
                self.rewards_sha256 = _text(record.get("rewards_sha256"), self.rewards_sha256)
            case "metrics":
                self.take_step(record)
                self.max_steps = _count(record.get("max_steps"), self.max_steps)
                loss = as_number(record.get("loss"))
                self.loss = loss if loss is not None and math.isfinite(loss) else self.loss
            case "progress":
                self.step, self.max_steps = _count(record.get("done"), self.step), _count(record.get("total"), self.max_steps)
            case "end" if record.get("reason") in ENDED:
                self.take_step(record)
                self.state, self.why, self.ended = record["reason"], record.get("error"), as_number(record.get("t"))

    def take_step(self, record: dict[str, Any]) -> None:
        """The step that a record names; the last ones of a run may have no metrics of their own (logging_steps)."""
        self.step = _count(record.get("step"), self.step)

    def living_state(self) -> str:
        """The state, corrected for a hub that died without a word: then a living state is really "lost"."""
        if self.state in ENDED or self.host != os.uname().nodename:
            return self.state
        if any(process and process.alive() for process in (self.hub, self.trainer)):
            return self.state
        # the launcher has written the manifest and the hub has not written itself into it yet
        return self.state if self.hub is None and time.time() - self.created < 30 else "lost"


def without_hub(manifest: Manifest) -> bool:
    """Whether a run's trainer lives on this box and its hub does not: it was killed."""
    alive = [process is not None and process.alive() for process in (manifest.hub, manifest.trainer)]
    return manifest.host == os.uname().nodename and alive == [False, True]


def _count(value: object, otherwise: int | None) -> int | None:
    return value if isinstance(value, int) else otherwise


def _text(value: object, otherwise: str | None) -> str | None:
    return value if isinstance(value, str) else otherwise


def read_manifest(run: RunDirectory) -> Manifest:
    """The run's manifest, brought up to date when its hub has died; UserError when it is missing or damaged."""
    manifest = _read(run)
    here = manifest.host == os.uname().nodename
    if here and manifest.state not in ENDED and manifest.hub is not None and not manifest.hub.alive():
        for record in last_records(run.journal / f"trainer-{manifest.attempt}.jsonl")[0]:
            manifest.take(record)
    return manifest


def _read(run: RunDirectory) -> Manifest:
    try:
        return msgspec.json.decode(run.manifest.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise UserError(f"{run.path} has no manifest.json: it is no run, or the disk was full when it began") from None
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise UserError(f"{run.manifest} cannot be read ({error}); the journal beside it still has the run's history") from error


def write_manifest(run: RunDirectory, manifest: Manifest) -> None:
    """Replace manifest.json whole; OSError when the disk refuses."""
    document: dict[str, Any] = asdict(manifest)
    write_atomically(run.manifest, json.dumps(document, indent=1), mode=0o600)
