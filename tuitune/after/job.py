"""A job as its own module sees it: its arguments, what it tells, and the commands and signals that reach it. Imports no torch."""

import threading
import time
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tuitune.bus.journal import Journal
from tuitune.bus.trainer_link import TrainerLink
from tuitune.runs.directory import RunDirectory
from tuitune.trainer.stop import StopRequest

HEARTBEAT_S = 1.0
PROGRESS_S = 0.5  # between two records of progress
Command = dict[str, Any]


class Job:
    """One per job process. `workspace`: the folder that relative paths start from. `ops`: the commands its kind takes besides `stop`."""

    def __init__(
        self, run: RunDirectory, kind: str, args: dict[str, Any], journal: Journal, link: TrainerLink, stop: StopRequest, workspace: Path
    ) -> None:
        self.run = run
        self.kind = kind
        self.args = args
        self.journal = journal
        self.link = link
        self.stop = stop
        self.workspace = workspace
        self.ops: Collection[str] = ()
        self.phase = "loading"
        self._commands: deque[Command] = deque()
        self._progress_due = 0.0
        self._moved = time.monotonic()
        self._over = threading.Event()

    def emit(self, ev: str, /, **fields: Any) -> None:
        """One record of the journal."""
        self.journal.emit(ev, **fields)

    def state(self, state: str, why: str | None = None) -> None:
        """Tell a state (loading, running, saving …), once however often it is set. From `running` on a stop waits for `stopped`."""
        if state == "running":
            self.stop.begin()
        if state != self.phase or why:
            self.phase, self._moved = state, time.monotonic()
            self.emit("state", s=state, why=why)

    def progress(self, done: int, total: int, what: str) -> None:
        """Tell how far it is, in whatever it counts; at most twice a second, and always the last."""
        self._moved = now = time.monotonic()
        if now >= self._progress_due or done >= total:
            self._progress_due = now + PROGRESS_S
            self.emit("progress", done=done, total=total, what=what)

    def warn(self, text: str) -> None:
        """One sentence that everybody who watches shall see."""
        self.emit("warning", text=text)

    def stopped(self) -> bool:
        """Whether somebody wants it to end: then return what there is. Who asks is no process that hangs."""
        self._moved = time.monotonic()
        for command in self.link.take():
            self._take(command)
        return self.stop.asked

    def commands(self) -> list[Command]:
        """The commands of the kind's own `ops` that have come since the last call; each wants one `answer`."""
        self.stopped()
        return [self._commands.popleft() for _ in range(len(self._commands))]

    def answer(self, command: Command, error: str | None = None, **told: Any) -> None:
        """Tell whoever gave the command, and the journal, that it is done or (error) refused."""
        key, op = str(command.get("id")), command.get("op")
        self.emit("applied", id=key, op=op, by=command.get("by"), ok=error is None, error=error, **told)
        self.link.reply(key, error is None, error, **told)

    def start_heartbeat(self) -> None:
        """A record a second from a thread of its own, by which the hub tells a job that works from one that hangs."""
        threading.Thread(target=self._beat, name="tuitune-heartbeat", daemon=True).start()

    def close(self) -> None:
        """End the heartbeat and send the last answers."""
        self._over.set()
        self.link.close()
        self.journal.close()

    def _take(self, command: Command) -> None:
        op = command.get("op")
        if op == "stop":
            self.stop.ask(f"stop by {command.get('by') or 'somebody'}")
            self.answer(command)
        elif op in self.ops:
            self._commands.append(command)
        else:
            self.answer(command, f"a {self.kind} takes no {op!r}; it takes {', '.join(('stop', *self.ops))}")

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            self.emit("hb", phase=self.phase, since_boundary_s=round(time.monotonic() - self._moved, 2))
