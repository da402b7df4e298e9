"""What people want of a run: the commands that are the hub's own (stop and kill in part, stacks, all of them while suspended) and the
signals that reach it."""

import signal
from collections.abc import Callable
from typing import Any

from tuitune.errors import UserError
from tuitune.hub.attempt import Attempt
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Manifest


class Control:
    """`attempt` is the present one. `stop_wanted` says who or what wants the run to end: then no attempt follows."""

    def __init__(self, run: RunDirectory, manifest: Manifest, take_lease: Callable[[], object]) -> None:
        self.attempt: Attempt | None = None
        self.suspended = False
        self.resume_wanted = False
        self.stop_wanted = ""
        self.signals = 0
        self._run = run
        self._manifest = manifest
        self._take_lease = take_lease

    def listen_to_signals(self) -> None:
        """SIGTERM and SIGINT: the trainer saves and ends; the second one does not wait for it. A hang-up is nothing to a hub."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def carry_out(self, command: dict[str, Any]) -> dict[str, Any] | None:
        """Do a command that is the hub's: what its answer says ("error" when refused), or None for one that is the trainer's."""
        op, by = str(command.get("op")), str(command.get("by") or "somebody")
        if op in ("stop", "kill"):
            self.stop_wanted = f"{op} by {by}"
        if self.suspended:
            return self._without_trainer(op)
        if op == "kill":
            self._kill(by)
            return {}
        if op == "stacks":
            try:
                return {"note": self.ask_for_stacks()}
            except UserError as error:
                return {"error": str(error)}
        if op == "stop" and self._manifest.state in ("starting", "loading"):
            self._tell_to_end()  # it looks at no command yet
        return None

    def _without_trainer(self, op: str) -> dict[str, Any]:
        if op in ("stop", "kill"):
            return {}
        if op != "resume":
            return {"error": "the run is suspended and has no trainer: resume it first"}
        try:
            self._take_lease()
        except UserError as error:
            return {"error": str(error)}
        self.resume_wanted = True
        return {}

    def ask_for_stacks(self) -> str:
        """Have the trainer write every thread's stack; where. UserError: why not."""
        if self.attempt is None or self.attempt.trainer.ended():
            raise UserError("the run has no trainer at the moment")
        return self.attempt.stacks.ask(self.attempt.trainer)

    def pass_stop_on(self) -> None:
        """Let the trainer know of the signals that have come."""
        if self.signals > 1:
            self._kill("a second signal to its hub")
        elif self.signals:
            self._tell_to_end()

    def _on_signal(self, number: int, _: object) -> None:
        self.signals += 1
        self.stop_wanted = f"{signal.Signals(number).name} to its hub"
        self.pass_stop_on()

    def _tell_to_end(self) -> None:
        if self.attempt is not None:
            self.attempt.told_to_end = True
            self.attempt.trainer.send(signal.SIGTERM)

    def _kill(self, by: str) -> None:
        if self.attempt is not None and self.attempt.trainer.kill():
            self.attempt.killed_by = by
