"""The warm process: has imported the libraries once, and forks a worker for every request.

Requests come as lines on standard input, answers go as lines to standard output (the bus envelope), like a language server's. A worker
that takes too long or too much memory is killed without touching the others; when the asker is gone (end of input) everything ends.

    → {"v": 1, "id": ID, "op": "inspect", "args": {…}}            → {"v": 1, "id": ID, "op": "cancel"}
    ← {"v": 1, "id": ID, "ev": "progress", "text": …}  ← {"v": 1, "id": ID, "ev": "part", "part": …}  …  then one of
    ← {"v": 1, "id": ID, "ev": "result", "result": {…}}           ← {"v": 1, "id": ID, "ev": "error", "text": …}
"""

import contextlib
import os
import resource
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from tuitune.analyst.render_watch import STUCK, RenderWatch
from tuitune.bus.envelope import VERSION, decode, encode
from tuitune.errors import UserError

MEMORY = 8 << 30  # bytes of data a worker may have beyond what it was born with
CHUNK = 1 << 20
AFTERWARDS_S = 60  # what a worker may take for what nobody waits for
AT_ONCE = 4  # workers at a time; what comes beyond them waits

Progress = Callable[[str], None]


class Told:
    """What an operation gets as its `progress`: a sentence about what goes on, or (`part`) a piece of the result ahead of the whole.

    `afterwards`: what it wants done when its answer is out, for example to remember something; nobody waits for that.
    """

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self.afterwards: list[Callable[[], None]] = []

    def __call__(self, text: str) -> None:
        self._tell("progress", text=text)

    def part(self, part: Any) -> None:
        """Send something that JSON can say."""
        self._tell("part", part=part)

    def do_the_rest(self) -> None:
        """What was asked for `afterwards`; it tells nobody anything, for there may be nobody left."""
        self._tell = lambda event, **fields: None
        for more in self.afterwards:
            more()


@dataclass(frozen=True)
class Operation:
    """`run(progress, **args)` in a worker; killed after `limit_s` seconds. `renders`: it gets
    `watch` as well, and a worker that is stuck in a chat template is killed long before."""

    run: Callable[..., dict[str, Any]]
    limit_s: float
    renders: bool = False


@dataclass
class _Worker:
    id: str
    pid: int
    output: int
    deadline: float
    limit_s: float
    watch: RenderWatch
    rest: bytearray = field(default_factory=bytearray)
    answered: bool = False


class Server:
    """One per process, in its main thread, which must be the only one: a fork copies no other."""

    def __init__(self, operations: Mapping[str, Operation], requests: int, answers: IO[bytes]) -> None:
        self._operations = operations
        self._requests = requests
        self._answers = answers
        self._workers: dict[str, _Worker] = {}
        self._waiting: list[dict[str, Any]] = []
        self._rest = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ)

    def serve(self) -> None:
        """Until the end of input."""
        while True:
            for key, _ in self._selector.select(timeout=self.turn()):
                if key.data is not None:
                    self._read_worker(key.data)
                elif not self._read_requests():
                    self._leave()
                    return
            for worker in list(self._workers.values()):
                if worker.watch.stuck:
                    self._give_up(worker, STUCK)
                elif time.monotonic() > worker.deadline:
                    self._give_up(worker, f"this took longer than {worker.limit_s:g} s and was ended")

    def _leave(self) -> None:
        """Nobody listens any more: workers that have answered may end what they do afterwards, the others end here."""
        for worker in list(self._workers.values()):
            if worker.answered:
                del self._workers[worker.id]
            else:
                worker.answered = True
                self._end(worker)

    def _give_up(self, worker: _Worker, why: str) -> None:
        if not worker.answered:
            self._answer(worker.id, "error", text=why)
            worker.answered = True
        self._end(worker)

    def turn(self) -> float | None:
        """Called between messages; how many seconds may pass until the next call, None: any number. For servers with work of their own."""
        return 0.1 if self._workers else None

    def _answer(self, id: str, event: str, **fields: Any) -> None:
        self._answers.write(encode({"v": VERSION, "id": id, "ev": event, **fields}))
        self._answers.flush()

    def _read_requests(self) -> bool:
        data = os.read(self._requests, CHUNK)
        self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            request = decode(bytes(line))
            if request is not None:
                self._take(request)
        return bool(data)

    def _take(self, request: dict[str, Any]) -> None:
        id, op = str(request.get("id")), str(request.get("op"))
        if op == "cancel":
            self._waiting = [other for other in self._waiting if str(other.get("id")) != id]
            if id in self._workers:
                self._workers[id].answered = True  # whoever cancels does not wait for an answer
                self._end(self._workers[id])
        elif op not in self._operations:
            self._answer(id, "error", text=f"unknown op {op!r}; there are {', '.join(sorted(self._operations))}")
        elif len(self._workers) >= AT_ONCE:
            self._waiting.append(request)
        else:
            self._start(id, self._operations[op], request.get("args") or {})

    def _start(self, id: str, operation: Operation, args: dict[str, Any]) -> None:
        read_end, write_end = os.pipe()
        watch = RenderWatch()
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            work(write_end, id, operation, {**args, "watch": watch} if operation.renders else args)
        os.close(write_end)
        worker = self._workers[id] = _Worker(id, pid, read_end, time.monotonic() + operation.limit_s, operation.limit_s, watch)
        self._selector.register(read_end, selectors.EVENT_READ, worker)

    def _read_worker(self, worker: _Worker) -> None:
        data = os.read(worker.output, CHUNK)
        worker.rest += data
        if b"\n" in data:
            whole, _, rest = worker.rest.rpartition(b"\n")
            worker.rest = rest
            worker.answered = worker.answered or b'"ev":"result"' in whole or b'"ev":"error"' in whole
            self._answers.write(bytes(whole) + b"\n")
            self._answers.flush()
        if not data:
            self._end(worker)

    def _end(self, worker: _Worker) -> None:
        self._selector.unregister(worker.output)
        os.close(worker.output)
        if os.waitpid(worker.pid, os.WNOHANG)[0] == 0:
            _kill(worker.pid)
            os.waitpid(worker.pid, 0)
        worker.watch.close()
        del self._workers[worker.id]
        if not worker.answered:
            self._answer(worker.id, "error", text="the worker died without a word: out of memory, or killed by somebody; ask again")
        if self._waiting and len(self._workers) < AT_ONCE:
            self._take(self._waiting.pop(0))


def _kill(pid: int) -> None:
    """A worker and what it has forked (it leads a process group from its first line on)."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def work(output: int, id: str, operation: Operation, args: dict[str, Any]) -> None:
    """A worker's whole life; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(2, 1)  # what libraries print is not an answer
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, used + MEMORY))

        def tell(event: str, **fields: Any) -> None:
            data = memoryview(encode({"v": VERSION, "id": id, "ev": event, **fields}))
            while data:
                data = data[os.write(output, data) :]

        told = Told(tell)
        try:
            result = operation.run(told, **args)
            tell("result", result=result)
            code = 0
        except UserError as error:
            tell("error", text=str(error), exit_code=error.exit_code)
        except MemoryError:
            tell("error", text=f"this needs more than {MEMORY >> 30} GiB of memory and was ended; look at fewer rows")
        except Exception as error:
            traceback.print_exc()
            tell("error", text=f"{type(error).__name__}: {error}")
        else:
            signal.alarm(AFTERWARDS_S)  # the server may be gone by then, and nobody else would end it
            told.do_the_rest()
    except Exception:
        traceback.print_exc()  # of what was to be done afterwards: the answer is out
    finally:
        sys.stderr.flush()
        os._exit(code)
