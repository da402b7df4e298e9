"""The hub: one small process per run that owns the trainer and tells its story.

It starts the trainer, passes commands on, samples GPU and host once a second, copies the trainer's log into the journal, keeps the
manifest true and says in plain words why a trainer died. It lives in its own session, so neither a hang-up nor the death of whoever
started it reaches it. Imports no torch: it must survive what happens to the trainer.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from tuitune.bus.envelope import VERSION, decode
from tuitune.bus.journal import Journal, JournalTail
from tuitune.bus.server import CommandServer
from tuitune.bus.sockets import new_connection, remove_sockets, write_connection
from tuitune.errors import UserError
from tuitune.hub.faults import classify, cut, oom_kills
from tuitune.hub.gpu import GpuSampler
from tuitune.hub.host import HostSampler
from tuitune.hub.lease import Lease, take_lease
from tuitune.hub.log_tail import LogTail
from tuitune.recipe.devices import wants_cpu
from tuitune.recipe.document import read_document
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Manifest, Process, read_manifest, write_manifest
from tuitune.secrets import Masker
from tuitune.versions import installed

SAMPLE_EVERY_S = 1.0
MANIFEST_EVERY_S = 2.0
RESERVE = 128 << 10  # bytes kept on disk, given back at the end: a disk that has filled up must not cost the story of how it ended
LINGER_S = 0.5  # after the end, for clients that still wait for an answer


def supervise(path: Path, trainer_command: Sequence[str] | None = None) -> int:
    """Run the hub of the run at `path` to the end of its trainer; 0 when that ended well, else 1. UserError before anything started."""
    run = RunDirectory(path.resolve())
    read_manifest(run)  # says so when this is no run at all
    try:
        with _lock(run) as lock:
            manifest = read_manifest(run)
            if manifest.hub is not None:
                raise UserError(f"{run.name} was started before (it is {manifest.living_state()}); a new run: tuitune train RECIPE")
            # -P: a datasets.py or json.py in the user's folder must not take the place of the library
            command = trainer_command or [sys.executable, "-P", "-m", "tuitune.trainer", str(run.path)]
            return Supervisor(run, manifest, command, lock).run_to_end()
    except OSError as error:
        raise UserError(f"{error.filename or run.path}: {error.strerror}; the hub of {run.name} cannot go on") from error


def _lock(run: RunDirectory) -> IO[str]:
    file = run.lock.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"{run.name} has a hub already; attach to it: tuitune attach {run.name}") from None
    return file


class Supervisor:
    """State of one hub; everything happens in `run_to_end` and the sampling thread."""

    def __init__(self, run: RunDirectory, manifest: Manifest, trainer_command: Sequence[str], lock: IO[str]) -> None:
        self.run = run
        self.manifest = manifest
        self.command = list(trainer_command)
        self.lock = lock
        self.own_journal = f"trainer-{manifest.attempt}"  # the trainer's own
        self.journal = Journal(run.journal / "hub.jsonl")
        self.events = JournalTail(run.journal, only=self.own_journal)
        self.log = LogTail(run.log / f"{manifest.attempt}.rank0.txt", Masker())
        self.trainer: subprocess.Popen[bytes] | None = None
        self.last_words: dict[str, Any] = {}  # the trainer's `end` record
        self.last_reason: str | None = None  # the reason it gave for its last state
        self.killed_by: str | None = None
        self.stops_asked = 0
        self.stop_told = False
        self.stopped_early = False  # told to stop while it loaded
        self.ending = threading.Event()
        self.manifest_due = 0.0
        self.reserve = run.path / ".reserve"

    def run_to_end(self) -> int:
        """Start, serve and finish; the order in here is the life of a run."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._say_hello()
        server: CommandServer | None = None
        lease: Lease | None = None
        kills_before = oom_kills()
        try:
            connection = new_connection(self.run.path)
            server = CommandServer(connection, self._command_event, self._kill)
            write_connection(self.run.connection, connection)
            sampler = GpuSampler()
            lease = take_lease(wanted_gpus(self.run), sampler.sample()["devices"], self.run.path)
            if lease.note:
                self.journal.emit("warning", text=lease.note)
            self._start_trainer(lease)
            threading.Thread(target=self._sample, args=(sampler,), name="tuitune-samples", daemon=True).start()
            self._serve_until_exit(server)
            return self._finish(server, oom_kills() - kills_before)
        except UserError as error:
            return self._end("failed", str(error))
        except OSError as error:
            if self.trainer is not None:
                raise  # it trains on without us; its journal and the manifest tell how that ends
            return self._end("failed", f"{error.filename or self.run.path}: {error.strerror}; make room or mend it and start the run again")
        finally:
            self.ending.set()
            if lease is not None:
                lease.release()
            if server is not None:
                self._linger(server)
                server.close()
            self.run.connection.unlink(missing_ok=True)
            remove_sockets(self.run.path)
            self.journal.close()

    def _say_hello(self) -> None:
        process = self.manifest.hub = Process.of(os.getpid())
        self.manifest.versions = installed()
        self.journal.emit(
            "hello",
            proto=VERSION,
            pid=os.getpid(),
            start_ticks=process and process.start_ticks,
            host=self.manifest.host,
            argv=self.command,
            versions=self.manifest.versions,
            attempt=self.manifest.attempt,
        )
        self.journal.emit("state", s="starting")
        if ids := self.manifest.overridden:
            self.journal.emit("warning", text=f"started with --force in spite of preflight's errors: {', '.join(ids)}", overridden=ids)
        with contextlib.suppress(OSError):
            self.reserve.write_bytes(bytes(RESERVE))
        self._write_manifest()

    def _start_trainer(self, lease: Lease) -> None:
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
            "TUITUNE_RUN": str(self.run.path),
            **lease.environment(),
        }
        log = os.open(self.log.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # A file and no pipe, so that it can print after our death; a session of its own, so that `kill` reaches its dataloader workers
            # too and a Ctrl-C at a terminal never does; our locks, so that run and GPUs stay taken as long as it lives.
            self.trainer = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                pass_fds=(self.lock.fileno(), *lease.descriptors()),
            )
        except OSError as error:
            raise UserError(f"the trainer could not be started ({error.strerror})") from error
        finally:
            os.close(log)
        _sacrifice_first(self.trainer.pid)
        self.manifest.trainer = Process.of(self.trainer.pid)
        self._write_manifest()
        if self.stops_asked:
            self._pass_stop_on()

    def _serve_until_exit(self, server: CommandServer) -> None:
        assert self.trainer is not None
        files_due = 0.0
        while not self._trainer_has_ended():
            server.serve(0.1)
            self._read_log(self.log.poll())
            self._read_events()
            now = time.monotonic()
            if now >= files_due:
                files_due = now + 1.0
                self._read_command_files(server)
            if self.stops_asked and not self.stop_told:
                self.stop_told = True
                self.manifest.state = "stopping"
                self.journal.emit("state", s="stopping", step=self.manifest.step, why="the hub was told to end")
            if now >= self.manifest_due:
                self._write_manifest()

    def _trainer_has_ended(self) -> bool:
        """Whether the trainer is over; what is left of its process group then ends too, before its pid can mean anybody else."""
        assert self.trainer is not None
        if self.trainer.returncode is None:
            if os.waitid(os.P_PID, self.trainer.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            with contextlib.suppress(OSError):
                os.killpg(self.trainer.pid, signal.SIGKILL)
            self.trainer.wait()
        return True

    def _finish(self, server: CommandServer, kills: int) -> int:
        assert self.trainer is not None
        code = self.trainer.returncode
        self.reserve.unlink(missing_ok=True)
        self._read_log(self.log.rest())
        self._read_events()
        server.trainer_gone()
        reason = self.last_words.get("reason")
        if reason in ("done", "stopped"):
            if code != 0:
                self.journal.emit(
                    "warning", text=f"the trainer broke down while it left (exit status {code}); its work was done and saved before"
                )
            return self._end(reason, self.last_reason)
        if code == 0:
            return self._end("done", "the trainer ended well, but its journal lacks the end: was the disk full?")
        if (self.stops_asked == 1 or self.stopped_early) and not self.manifest.step and code in (-signal.SIGTERM, -signal.SIGINT):
            return self._end("stopped", "stopped before it had begun to train")
        text = "\n".join(self.log.recent)
        fault = classify(code, text, kills, error=self.last_words.get("error"), killed_by=self.killed_by)
        if fault.kind != "user_error":
            self.journal.emit(
                "crash",
                rc=code,
                signal=fault.signal,
                **{"class": fault.kind},
                last_step=self.manifest.step,
                traceback=fault.traceback,
                oom_kills=kills,
                hint=fault.hint,
                tail=cut("\n".join(list(self.log.recent)[-30:])).splitlines(),
            )
        return self._end("failed", fault.hint)

    def _end(self, state: str, why: str | None) -> int:
        self.reserve.unlink(missing_ok=True)
        self.manifest.state, self.manifest.why, self.manifest.ended = state, why, time.time()
        self.journal.emit("state", s=state, step=self.manifest.step, why=why)
        self.journal.emit("end", step=self.manifest.step, reason=state, error=why if state == "failed" else None)
        self._write_manifest()  # last: whoever reads the end here finds the whole story in the journal
        return 1 if state == "failed" else 0

    def _linger(self, server: CommandServer) -> None:
        deadline = time.monotonic() + LINGER_S
        while time.monotonic() < deadline:
            server.serve(0.1)

    def _read_log(self, lines: Any) -> None:
        for offset, text in lines:
            self.journal.emit("log", rank=0, stream="out", text=text, offset=offset)

    def _read_events(self) -> None:
        """Follow the trainer's own journal: its states become the run's, its progress goes into the manifest."""
        for record in self.events.poll():
            before = self.manifest.state
            if record.get("ev") == "end":
                self.last_words = record  # it is over when the process has ended, not before
                self.manifest.take_step(record)
                continue
            if record.get("ev") == "state":
                self.last_reason = record.get("why")
            self.manifest.take(record)
            if self.manifest.state != before:
                self.manifest_due = 0.0

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

    def _sample(self, gpu: GpuSampler) -> None:
        assert self.trainer is not None
        gpu.tree_of = self.trainer.pid
        try:
            host = HostSampler(self.run.path, tree_of=self.trainer.pid)
            sample = gpu.sample()
            self.journal.emit("gpu", **sample)
            while not self.ending.wait(SAMPLE_EVERY_S):
                if sample["devices"]:  # a box without GPUs has said so once
                    self.journal.emit("gpu", **gpu.sample())
                self.journal.emit("host", **host.sample())
        except Exception as error:  # the figures end, the run does not, and it says so
            self.journal.emit("warning", text=f"no more figures of GPUs and host: {type(error).__name__}: {error}")
        gpu.close()

    def _write_manifest(self) -> None:
        self.manifest_due = time.monotonic() + MANIFEST_EVERY_S
        try:
            write_manifest(self.run, self.manifest)
        except OSError:
            pass  # a full disk: the journal counts what it lost, and the next write may fit

    def _command_event(self, event: str, **fields: Any) -> None:
        """What the command server has to tell. While the trainer loads it looks at no command, so a stop goes to it as a signal too."""
        self.journal.emit(event, **fields)
        if (
            event == "command"
            and fields.get("op") == "stop"
            and self.manifest.state in ("starting", "loading")
            and self.trainer is not None
        ):
            self.stopped_early = True
            os.kill(self.trainer.pid, signal.SIGTERM)

    def _on_stop_signal(self, number: int, _: object) -> None:
        """SIGTERM and SIGINT: the trainer saves and ends; the second one does not wait for it."""
        self.stops_asked += 1
        self._pass_stop_on()

    def _pass_stop_on(self) -> None:
        if self.stops_asked > 1:
            self._kill("a second signal to its hub")
        elif self.trainer is not None and self.trainer.returncode is None:
            os.kill(self.trainer.pid, signal.SIGTERM)

    def _kill(self, by: str) -> None:
        if self.trainer is not None and self.trainer.returncode is None:
            self.killed_by = by
            os.killpg(self.trainer.pid, signal.SIGKILL)


def _sacrifice_first(pid: int) -> None:
    """When RAM runs out the kernel shall take the trainer, not the hub that can explain it."""
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text("500")
    except OSError:
        pass  # not allowed in some containers: then the kernel chooses


def wanted_gpus(run: RunDirectory) -> object:
    """What the run's recipe says of GPUs: the value of `launch.gpus`, or "cpu". UserError with the place when it is no YAML."""
    document = read_document(run.recipe)
    error = next((problem for problem in document.problems if problem.severity == "error"), None)
    if error is not None:
        raise UserError(f"{run.recipe}:{error.line}:{error.column}: {error.message}")
    launch, training = (section if isinstance(section := document.data.get(name), dict) else {} for name in ("launch", "training"))
    return "cpu" if wants_cpu(launch, training) else launch.get("gpus")
