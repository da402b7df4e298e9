"""What a hub writes of its run: its journal and the manifest, in step with each other."""

import contextlib
import os
import time
from collections.abc import Sequence
from typing import Any

from tuitune.bus.envelope import VERSION
from tuitune.bus.journal import Journal
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Manifest, Process, write_manifest
from tuitune.versions import installed

MANIFEST_EVERY_S = 2.0
RESERVE = 128 << 10  # bytes kept on disk, given back at the end: a disk that has filled up must not cost the story of how it ended


class RunRecord:
    """The manifest is written when something changes and every other second; a full disk costs that write and nothing else."""

    def __init__(self, run: RunDirectory, manifest: Manifest) -> None:
        self.run = run
        self.manifest = manifest
        self.journal = Journal(run.journal / "hub.jsonl")
        self.due = 0.0
        self._reserve = run.path / ".reserve"

    def hello(self, command: Sequence[str]) -> None:
        """The first record of a hub: who it is, what its trainer is started with."""
        self.manifest.hub = process = Process.of(os.getpid())
        self.manifest.versions = installed()
        self.manifest.host = os.uname().nodename
        self.journal.emit(
            "hello",
            proto=VERSION,
            pid=os.getpid(),
            start_ticks=process and process.start_ticks,
            host=self.manifest.host,
            argv=list(command),
            versions=self.manifest.versions,
            attempt=self.manifest.attempt,
        )

    def keep_reserve(self) -> None:
        """Take a little of the disk for the last words."""
        with contextlib.suppress(OSError):
            self._reserve.write_bytes(bytes(RESERVE))

    def warn(self, text: str, **fields: Any) -> None:
        """One sentence that everybody who watches shall see."""
        self.journal.emit("warning", text=text, **fields)

    def state(self, name: str, why: str | None = None, **fields: Any) -> None:
        """The run is in another state, by the hub's own knowledge."""
        self.manifest.state = name
        self.journal.emit("state", s=name, step=self.manifest.step, why=why, **fields)
        self.save()

    def end(self, state: str, why: str | None) -> None:
        """The last words of a run."""
        self.make_room()
        self.manifest.state, self.manifest.why, self.manifest.ended = state, why, time.time()
        self.journal.emit("state", s=state, step=self.manifest.step, why=why)
        self.journal.emit("end", step=self.manifest.step, reason=state, error=why if state == "failed" else None)
        self.save()  # last: whoever reads the end here finds the whole story in the journal

    def make_room(self) -> None:
        """Give the reserve back: what follows has to be written."""
        self._reserve.unlink(missing_ok=True)

    def save(self) -> None:
        """Write the manifest; the next write may fit where this one does not."""
        with contextlib.suppress(OSError):
            self.save_or_fail()

    def save_or_fail(self) -> None:
        """Write the manifest; OSError when the disk refuses."""
        self.due = time.monotonic() + MANIFEST_EVERY_S
        write_manifest(self.run, self.manifest)

    def save_when_due(self) -> None:
        """Write the manifest when its time has come."""
        if time.monotonic() >= self.due:
            self.save()
