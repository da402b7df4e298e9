"""The life of one run in its hub: attempts one after another, what is served meanwhile, and the end."""

import shutil
import time
from collections.abc import Iterable, Sequence
from typing import Any

from tuitune.bus.envelope import decode
from tuitune.bus.server import CommandServer
from tuitune.bus.sockets import Connection, new_connection, remove_sockets, write_connection
from tuitune.errors import UserError
from tuitune.hub import torchrun
from tuitune.hub.attempt import Attempt, Outcome
from tuitune.hub.cards import Cards
from tuitune.hub.control import Control
from tuitune.hub.evidence import evidence
from tuitune.hub.faults import oom_kills
from tuitune.hub.history import read_history
from tuitune.hub.record import RunRecord
from tuitune.hub.retry import Retry, decide, policy
from tuitune.hub.samples import Samples
from tuitune.hub.trainer_process import TrainerProcess, start_trainer
from tuitune.hub.unsaved import unsaved_settings
from tuitune.hub.waiting import in_thread
from tuitune.hub.wishes import batch_of, keep_batch, section
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import LIVING, Manifest
from tuitune.runs.resume import StartingPoint, begin_attempt, log_of, starting_point

LINGER_S = 0.5  # after the end, for clients that still wait for an answer
SECOND = 1.0  # between looks at command files and for a hang
ROOM = 1 << 20  # bytes free on the run's disk below which a silent journal says nothing about its trainer


class StoppedWaiting(Exception):
    """Somebody wants the run to end before it has a trainer; the text says what happened meanwhile."""


class RunLife:
    """State of one hub; everything happens in `run_to_end` and the sampling thread.

    `trainer`: one that lives on after its hub, to be adopted. `manifest` may be of a run that has ended or died: it then goes on.
    """

    def __init__(
        self, run: RunDirectory, manifest: Manifest, trainer_command: Sequence[str], trainer: TrainerProcess | None = None
    ) -> None:
        self.run = run
        self.command = list(trainer_command)
        self.manifest = manifest
        self.goes_on = manifest.hub is not None  # it had a hub before this one
        self.record = RunRecord(run, manifest)
        self.samples = Samples(self.record.journal, run.path)
        self.cards = Cards(self.record)
        self.control = Control(run, manifest, self.cards.take)
        self.connection: Connection | None = None
        self.announced = False
        self.server: CommandServer | None = None
        self.found = trainer
        self.stop_told = False
        self.look_due = 0.0

    def run_to_end(self) -> int:
        """Start, serve and finish; 0 when the run ended well, else 1. The order in here is the life of a run."""
        self.control.listen_to_signals()
        try:
            self._begin()
            while True:
                self._serve_until_exit()
                outcome = self._close_attempt()
                if outcome.state == "suspended":
                    if not self._wait_suspended():
                        return self._end("stopped", f"{self.control.stop_wanted or 'stopped'} while it was suspended")
                    self._start_attempt()
                    continue
                retry = self._decide(outcome)
                if not retry.again:
                    return self._end(outcome.state, outcome.why and outcome.why + (f" ({retry.words})" if retry.words else ""))
                self._start_again(outcome, retry)
        except StoppedWaiting as wait:
            return self._end("stopped", f"{self.control.stop_wanted} while {wait}")
        except UserError as error:
            return self._end("failed", str(error))
        except OSError as error:
            if self.control.attempt is not None and not self.control.attempt.trainer.ended():
                raise  # it trains on without us; its journal and the manifest tell how that ends
            return self._end("failed", f"{error.filename or self.run.path}: {error.strerror}; make room or mend it and resume the run")
        finally:
            self._leave()

    def _begin(self) -> None:
        """Open the sockets and have a trainer: the one that was found, or a new one."""
        self.record.hello(self.command)
        if not self.goes_on:
            self.record.state("starting", attempt=self.manifest.attempt)
            if ids := self.manifest.overridden:
                self.record.warn(f"started with --force in spite of preflight's errors: {', '.join(ids)}", overridden=ids)
        self.connection = new_connection(self.run.path)
        self.server = CommandServer(self.connection, self.record.journal.emit, self.control.carry_out)
        history = read_history(self.run)
        self.server.restore(history.commands)
        self.samples.start()
        if self.found is not None:
            self._adopt(self.found, history.log_offset)
        else:
            self.server.give_up_waiting()
            self._start_attempt()

    def _adopt(self, trainer: TrainerProcess, log_offset: int | None) -> None:
        """Take over a trainer whose hub was killed. Its exit status will stay unknown; the cards stay its own by the locks it inherited."""
        self.control.attempt = attempt = Attempt.of(self.run, self.manifest.attempt, trainer)
        if log_offset is not None:
            attempt.log.go_on_after(log_offset)
        self.manifest.trainer = trainer.process
        self.samples.tree_of = trainer.pid
        self._read_events()
        self.record.state(self.manifest.state, f"another hub has taken over: the one before was killed (attempt {attempt.number} goes on)")
        self._announce()

    def _start_attempt(self, cause: str = "", overrides: dict[str, Any] | None = None) -> None:
        """The next attempt, from the newest whole checkpoint. The manifest says so before the trainer, which obeys it, is started."""
        lease = self.cards.wait(self._announce, self._serve_waiting)
        self.record.keep_reserve()
        manifest, point = self.manifest, self._starting_point()
        lost = unsaved_settings(self.run, manifest.attempt, point.step)
        begin_attempt(self.run, manifest, point, overrides)
        manifest.oom_kills = oom_kills()
        self.record.save_or_fail()
        if self.goes_on or manifest.attempt > 1:
            why = f"attempt {manifest.attempt} {point.words}" + (f"; {cause}" if cause else "")
            fields = {"attempt": manifest.attempt, "resume_from": point.checkpoint, "overrides": manifest.overrides}
            self.record.state("starting", why, **fields)
        for sentence in point.passed_over:
            self.record.warn(f"{sentence}. That checkpoint is passed over; remove it, or put the file back")
        if lost:
            told = "no longer in force, because set after where it goes on from"
            self.record.warn(f"{told}: {'; '.join(lost)}. Set it again if you still want it")
        self._announce()
        log = log_of(self.run, manifest.attempt)
        processes = len(lease.uuids)
        nodes = torchrun.nodes_here(section(self.run, "launch")) if manifest.kind == "train" else None
        environment = {**lease.environment(), **torchrun.environment(processes, nodes), "TUITUNE_READ": point.checkpoint or ""}
        command = torchrun.torchrun(self.command, processes, nodes)
        trainer = start_trainer(command, self.run, log, environment, lease.descriptors())
        self.control.attempt = Attempt.of(self.run, manifest.attempt, trainer)
        manifest.trainer = trainer.process
        self.samples.tree_of = trainer.pid
        self.record.save()
        self.control.pass_stop_on()

    def _starting_point(self) -> StartingPoint:
        """The newest checkpoint that is what was written. Reading it through may take minutes: meanwhile everybody is served."""

        def long() -> None:
            self._announce()
            self.record.state("starting", "reads its newest checkpoint through before it goes on from there")

        try:
            return in_thread(lambda: starting_point(self.run, hashes=True), long, self._serve_waiting)
        except StoppedWaiting:
            raise StoppedWaiting("its checkpoint was read") from None

    def _announce(self) -> None:
        """Say where the sockets are, once: whoever waited for that finds the manifest of the attempt that starts."""
        if self.connection is not None and not self.announced:
            write_connection(self.run.connection, self.connection)
            self.announced = True

    def _serve_waiting(self) -> None:
        """Serve while there is no trainer yet."""
        self._serve_clients()
        if self.control.stop_wanted:
            raise StoppedWaiting("it waited for a GPU")

    def _serve_until_exit(self) -> None:
        attempt = self._attempt()
        while not attempt.trainer.ended():
            looked = self._serve_clients()
            self._read_log(attempt.log.poll())
            self._read_stacks(attempt)
            self._read_events()
            if looked:
                self._look_for_hang(attempt)
            if self.control.signals and not self.stop_told:
                self.stop_told = True
                self.record.state("stopping", "the hub was told to end")

    def _serve_clients(self) -> bool:
        """A tenth of a second for whoever asks; once a second (then True) for command files too."""
        assert self.server is not None
        self.server.serve(0.1)
        self.record.save_when_due()
        if time.monotonic() < self.look_due:
            return False
        self.look_due = time.monotonic() + SECOND
        self._read_command_files(self.server)
        return True

    def _read_log(self, lines: Iterable[tuple[int, str]]) -> None:
        for offset, text in lines:
            self.record.journal.emit("log", rank=0, stream="out", text=text, offset=offset)

    def _read_stacks(self, attempt: Attempt) -> None:
        for rank, text in attempt.stacks.poll():
            self.record.journal.emit("log", rank=rank, stream="stacks", text=text)

    def _read_events(self) -> None:
        """Follow the trainer's own journal: its states become the run's, its progress goes into the manifest."""
        assert self.server is not None
        for record in self._attempt().read(time.monotonic()):
            before = self.manifest.state
            if record.get("ev") == "end":
                if record.get("step"):  # it is over when the process has ended, not before
                    self.manifest.take_step(record)
                continue
            if record.get("ev") == "applied":
                self.server.settle(record)
                keep_batch(self.manifest, record)
            self.manifest.take(record)
            if self.manifest.state != before:
                self.record.due = 0.0

    def _read_command_files(self, server: CommandServer) -> None:
        """Commands left as files by a client that cannot reach the sockets; the answer is left beside them."""
        for path in sorted(self.run.commands.glob("*.json")):
            try:
                if not path.is_file():
                    continue  # a pipe would never end
                command = decode(path.read_bytes())
                path.unlink()
            except OSError:
                continue
            if command is not None:
                server.accept(command, path.with_suffix(".answer"))

    def _look_for_hang(self, attempt: Attempt) -> None:
        sentence = attempt.hang.hangs(time.monotonic(), letter := attempt.trainer.state())
        if sentence is None and attempt.hung:
            attempt.hung = False
            if attempt.hang.phase in LIVING:
                self.record.state(attempt.hang.phase, "it moves again")
        elif sentence is not None and not attempt.hung and self._has_room():
            attempt.hung = True
            stacks = "" if letter == "T" else self._stacks()
            name = self.run.name
            self.record.state("hung", f"{sentence}{stacks}. Wait, or end it (tuitune send {name} kill) and go on (tuitune resume {name})")

    def _stacks(self) -> str:
        """Where the stacks of the moment are, in parentheses; nothing when there are none."""
        try:
            return f" ({self.control.ask_for_stacks()})"
        except UserError:
            return ""

    def _has_room(self) -> bool:
        """Whether the trainer's silence means something: on a full disk its journal is silent too."""
        try:
            return shutil.disk_usage(self.run.path).free > ROOM
        except OSError:
            return False

    def _close_attempt(self) -> Outcome:
        """Read what the trainer has left, and tell how it ended."""
        attempt = self._attempt()
        self.samples.tree_of = None
        self.record.make_room()
        self._read_log(attempt.log.rest())
        self._read_stacks(attempt)
        self._read_events()
        kills = max(0, oom_kills() - self.manifest.oom_kills)
        outcome = attempt.outcome(kills, lambda fault: evidence(fault, self.run, self.samples.host, attempt.started))
        if outcome.warning:
            self.record.warn(outcome.warning)
        if outcome.fault is not None and outcome.fault.kind != "user_error":
            self.record.journal.emit("crash", last_step=self.manifest.step, **attempt.crash(outcome.fault, kills))
        return outcome

    def _decide(self, outcome: Outcome) -> Retry:
        """Whether the hub starts the next attempt by itself."""
        attempt = self._attempt()
        if outcome.fault is None or self.control.stop_wanted or attempt.killed_by or self.manifest.kind != "train":
            return Retry(False)
        allowed, batch = policy(section(self.run, "launch")), batch_of(self.run, self.manifest.overrides)
        return decide(outcome.fault.kind, allowed, self.manifest.retried, batch=batch, began=attempt.began)

    def _start_again(self, outcome: Outcome, retry: Retry) -> None:
        assert self.server is not None
        retried = self.manifest.retried
        retried[retry.kind] = retried.get(retry.kind, 0) + 1
        self.record.warn(f"{outcome.why}. It is started again by launch.retry: {retry.words}")
        self.server.trainer_left()
        self._start_attempt(f"launch.retry: {retry.words}", retry.overrides)

    def _wait_suspended(self) -> bool:
        """Serve without trainer and GPU until somebody wants the run to go on (True, and the cards are taken again) or to end."""
        assert self.server is not None
        self.cards.release()
        self.manifest.trainer = None
        self.control.suspended, self.control.resume_wanted, self.control.attempt = True, False, None
        where = starting_point(self.run).words
        self.record.state("suspended", f"the GPU is free; it goes on {where}: tuitune resume {self.run.name}")
        self.server.trainer_left()
        while not (self.control.stop_wanted or self.control.resume_wanted):
            self._serve_clients()
        self.control.suspended = False
        return not self.control.stop_wanted

    def _end(self, state: str, why: str | None) -> int:
        if self.server is not None:
            self.server.trainer_gone()
        self.record.end(state, why)
        return 1 if state == "failed" else 0

    def _leave(self) -> None:
        self.samples.stop()
        self.cards.release()
        if self.server is not None:
            deadline = time.monotonic() + LINGER_S
            while time.monotonic() < deadline:
                self.server.serve(0.1)
            self.server.close()
        self.run.connection.unlink(missing_ok=True)
        remove_sockets(self.run.path)
        self.record.journal.close()

    def _attempt(self) -> Attempt:
        assert self.control.attempt is not None
        return self.control.attempt
