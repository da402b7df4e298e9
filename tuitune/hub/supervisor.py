"""The hub: one small process per run that owns the trainer and tells its story.

It starts the trainer, passes commands on, samples GPU and host once a second, copies the trainer's log into the journal, keeps the
manifest true and says in plain words why a trainer died. It lives in its own session, so neither a hang-up nor the death of whoever
started it reaches it. Imports no torch: it must survive what happens to the trainer.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from tuitune.bus.envelope import VERSION, as_number
from tuitune.bus.journal import Journal, JournalTail
from tuitune.bus.server import CommandServer
from tuitune.bus.sockets import new_connection, remove_sockets, write_connection
from tuitune.errors import UserError
from tuitune.hub.faults import classify, oom_kills
from tuitune.hub.gpu import GpuSampler
from tuitune.hub.host import HostSampler
from tuitune.hub.lease import Lease, take_lease
from tuitune.hub.log_tail import LogTail
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import LIVING, Process, read_manifest, write_manifest
from tuitune.secrets import Masker
from tuitune.versions import installed

SAMPLE_EVERY_S = 1.0
MANIFEST_EVERY_S = 2.0
LINGER_S = 1.0  # after the end, for clients that still wait for an answer


def supervise(path: Path, trainer_command: Sequence[str] | None = None) -> int:
    """Run the hub of the run at `path` to the end of its trainer; 0 when that ended well, else 1. UserError before anything started."""
    run = RunDirectory(path.resolve())
    lock = _lock(run)
    try:
        return Supervisor(run, trainer_command or [sys.executable, "-m", "tuitune.trainer", str(run.path)]).run_to_end()
    finally:
        lock.close()


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

    def __init__(self, run: RunDirectory, trainer_command: Sequence[str]) -> None:
        self.run = run
        self.command = list(trainer_command)
        self.manifest = read_manifest(run)
        self.journal = Journal(run.journal / "hub.jsonl")
        self.events = JournalTail(run.journal)
        self.log = LogTail(run.log / f"{self.manifest.attempt}.rank0.txt", Masker())
        self.trainer: subprocess.Popen[bytes] | None = None
        self.trainer_error: str | None = None
        self.verdict = ""
        self.ending = threading.Event()
        self.stops_asked = 0
        self.manifest_due = 0.0

    def run_to_end(self) -> int:
        """Start, serve and finish; the order in here is the life of a run."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.manifest.hub = Process.of(os.getpid())
        self.manifest.versions = installed()
        self._say_hello()
        connection = new_connection(self.run.path)
        server = CommandServer(connection, self.journal.emit, self._kill)
        write_connection(self.run.connection, connection)
        lease: Lease | None = None
        kills_before = oom_kills()
        try:
            sampler = GpuSampler()
            lease = take_lease(_launch_section(self.run).get("gpus", "auto"), sampler.sample()["devices"], self.run.path)
            self._start_trainer(lease)
            threading.Thread(target=self._sample, args=(sampler,), daemon=True).start()
            self._serve_until_exit(server)
            return self._finish(server, oom_kills() - kills_before)
        except UserError as error:
            self._end("failed", str(error))
            return 1
        finally:
            self.ending.set()
            if lease is not None:
                lease.release()
            self._linger(server)
            server.close()
            self.run.connection.unlink(missing_ok=True)
            remove_sockets(self.run.path)
            self.journal.close()

    def _say_hello(self) -> None:
        process = self.manifest.hub
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
        self._write_manifest()

    def _start_trainer(self, lease: Lease) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **lease.environment()}
        descriptor = os.open(self.log.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # a session of its own, so that `kill` reaches its dataloader workers too and a Ctrl-C at a terminal never does
            self.trainer = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor, env=environment, start_new_session=True
            )
        except OSError as error:
            raise UserError(f"the trainer could not be started ({error.strerror})") from error
        finally:
            os.close(descriptor)
        _sacrifice_first(self.trainer.pid)
        self.manifest.trainer = Process.of(self.trainer.pid)
        self._write_manifest()

    def _serve_until_exit(self, server: CommandServer) -> None:
        assert self.trainer is not None
        files_due = 0.0
        while self.trainer.poll() is None:
            server.serve(0.1)
            self._read_log(self.log.poll())
            self._read_events()
            now = time.monotonic()
            if now >= files_due:
                files_due = now + 1.0
                self._read_command_files(server)
            if now >= self.manifest_due:
                self._write_manifest()

    def _finish(self, server: CommandServer, kills: int) -> int:
        assert self.trainer is not None
        code = self.trainer.returncode
        self._read_log(self.log.rest())
        self._read_events()
        server.trainer_gone()
        if code == 0:
            self._end("stopped" if self.verdict == "stopped" else "done", None)
            return 0
        fault = classify(code, "\n".join(self.log.recent), kills, self.trainer_error)
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
                tail=list(self.log.recent)[-30:],
            )
        self._end("failed", fault.hint)
        return 1

    def _end(self, state: str, why: str | None) -> None:
        self.manifest.state, self.manifest.why, self.manifest.ended = state, why, time.time()
        self.journal.emit("state", s=state, step=self.manifest.step, why=why)
        self.journal.emit("end", step=self.manifest.step, reason=state, error=why if state == "failed" else None)
        self._write_manifest()  # last: whoever reads the end here finds the whole story in the journal

    def _linger(self, server: CommandServer) -> None:
        deadline = time.monotonic() + LINGER_S
        while time.monotonic() < deadline:
            server.serve(0.1)

    def _read_log(self, lines: Any) -> None:
        for offset, text in lines:
            self.journal.emit("log", rank=0, stream="out", text=text, offset=offset)

    def _read_events(self) -> None:
        """Follow the trainer's own journal: its states become the run's, its progress goes into the manifest."""
        own = f"trainer-{self.manifest.attempt}"
        for record in self.events.poll():
            if record["src"] != own:
                continue
            match record.get("ev"):
                case "state":
                    if record.get("s") in LIVING:
                        self.manifest.state = record["s"]
                        self.manifest_due = 0.0
                    else:
                        self.verdict = str(record.get("s"))  # it is over when the process has ended, not before
                case "metrics":
                    self.manifest.step = record.get("step", self.manifest.step)
                    self.manifest.max_steps = record.get("max_steps", self.manifest.max_steps)
                    self.manifest.loss = _finite(record.get("loss"), self.manifest.loss)
                case "end":
                    self.trainer_error = record.get("error")

    def _read_command_files(self, server: CommandServer) -> None:
        """Commands left as files by a client that cannot reach the sockets; the answer is written beside them."""
        for path in sorted(self.run.commands.glob("*.json")):
            try:
                command = json.loads(path.read_bytes())
                path.unlink()
            except (OSError, ValueError):
                continue
            if isinstance(command, dict):
                server.accept(command)

    def _sample(self, gpu: GpuSampler) -> None:
        assert self.trainer is not None
        gpu.tree_of = self.trainer.pid
        host = HostSampler(self.run.path, tree_of=self.trainer.pid)
        while not self.ending.wait(SAMPLE_EVERY_S):
            self.journal.emit("gpu", **gpu.sample())
            self.journal.emit("host", **host.sample())
        gpu.close()

    def _write_manifest(self) -> None:
        self.manifest_due = time.monotonic() + MANIFEST_EVERY_S
        try:
            write_manifest(self.run, self.manifest)
        except OSError:
            pass  # a full disk: the journal counts what it lost, and the next write may fit

    def _on_stop_signal(self, number: int, _: object) -> None:
        """SIGTERM and SIGINT: the trainer saves and ends; the second one does not wait for it."""
        self.stops_asked += 1
        if self.trainer is None or self.stops_asked > 1:
            self._kill()
        else:
            self.trainer.send_signal(signal.SIGTERM)

    def _kill(self) -> None:
        if self.trainer is not None and self.trainer.poll() is None:
            os.killpg(self.trainer.pid, signal.SIGKILL)


def _finite(value: object, otherwise: float | None) -> float | None:
    number = as_number(value)
    return number if number is not None and number - number == 0 else otherwise


def _sacrifice_first(pid: int) -> None:
    """When RAM runs out the kernel shall take the trainer, not the hub that can explain it."""
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text("500")
    except OSError:
        pass  # not allowed in some containers: then the kernel chooses


def _launch_section(run: RunDirectory) -> dict[str, Any]:
    """`launch:` of the run's recipe; the recipe itself was validated before the run was made."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        recipe = YAML(typ="safe", pure=True).load(run.recipe.read_text(encoding="utf-8"))
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{run.recipe} cannot be read: {error}") from error
    section = recipe.get("launch") if isinstance(recipe, dict) else None
    return section if isinstance(section, dict) else {}
