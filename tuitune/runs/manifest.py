"""manifest.json: what a run is, whose processes it has and how it stands. Written by the launcher once, then by the hub alone."""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from tuitune.errors import UserError
from tuitune.files import write_atomically
from tuitune.runs.directory import RunDirectory

LIVING = frozenset({"starting", "loading", "running", "evaluating", "saving", "paused", "suspended", "stopping", "hung"})
ENDED = frozenset({"done", "stopped", "failed", "lost"})


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
    """Times are unix seconds, steps are optimizer steps, `host` is where the processes are."""

    name: str
    created: float = field(default_factory=time.time)
    ended: float | None = None
    recipe_path: str = ""
    workspace: str = ""
    host: str = field(default_factory=lambda: os.uname().nodename)
    versions: dict[str, str | None] = field(default_factory=dict)
    attempt: int = 1
    state: str = "starting"
    why: str | None = None
    step: int | None = None
    max_steps: int | None = None
    loss: float | None = None
    hub: Process | None = None
    trainer: Process | None = None
    schema: int = 1

    def living_state(self) -> str:
        """The state, corrected for a hub that died without a word: then a living state is really "lost"."""
        if self.state in ENDED or self.host != os.uname().nodename:
            return self.state
        if any(process and process.alive() for process in (self.hub, self.trainer)):
            return self.state
        # the launcher has written the manifest and the hub has not written itself into it yet
        return self.state if self.hub is None and time.time() - self.created < 30 else "lost"


def read_manifest(run: RunDirectory) -> Manifest:
    """The run's manifest; UserError when it is missing or damaged."""
    try:
        document = json.loads(run.manifest.read_bytes())
        known = {key: document[key] for key in Manifest.__dataclass_fields__ if key in document}
        for role in ("hub", "trainer"):
            known[role] = Process(**known[role]) if known.get(role) else None
        return Manifest(**known)
    except FileNotFoundError:
        raise UserError(f"{run.path} is not a run: it has no manifest.json") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{run.manifest} cannot be read ({error}); the journal beside it still has the run's history") from error


def write_manifest(run: RunDirectory, manifest: Manifest) -> None:
    """Replace manifest.json whole; OSError when the disk refuses."""
    document: dict[str, Any] = asdict(manifest)
    write_atomically(run.manifest, json.dumps(document, indent=1), mode=0o600)
