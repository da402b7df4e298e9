"""The reader's loop: the analyst's server with requests that are answered in the process itself, a few milliseconds at a time.

Rows come out of files that are kept open with their index, so those requests cannot each have a process of their own as scans do
(tuitune.analyst.server forks for them). A request is a generator: it gives None after every turn and returns its answer.
"""

from collections.abc import Callable, Generator, Mapping
from typing import IO, Any

from tuitune.analyst.server import Operation, Server
from tuitune.errors import UserError

IDLE_S = 1.0
Going = Generator[None, None, dict[str, Any]]
Steps = Callable[..., Going]


class ReaderServer(Server):
    """`steps` are answered here, `scans` by forked workers; `background` does a turn of other work and says whether there was any."""

    def __init__(
        self,
        steps: Mapping[str, Steps],
        scans: Mapping[str, Operation],
        background: Callable[[], bool],
        requests: int,
        answers: IO[bytes],
    ) -> None:
        super().__init__(scans, requests, answers)
        self._steps = steps
        self._background = background
        self._going: dict[str, Going] = {}

    def turn(self) -> float:
        for id, going in list(self._going.items()):
            self._step(id, going)
        busy = self._background() or bool(self._going)
        return 0.0 if busy else 0.1 if self._workers else IDLE_S

    def _take(self, request: dict[str, Any]) -> None:
        id, op = str(request.get("id")), str(request.get("op"))
        if op == "cancel" and id in self._going:
            self._going.pop(id).close()
        elif op in self._steps:
            try:
                self._going[id] = self._steps[op](**(request.get("args") or {}))
            except TypeError as error:
                self._answer(id, "error", text=f"{op}: {error}")
        else:
            super()._take(request)

    def _step(self, id: str, going: Going) -> None:
        try:
            next(going)
            return
        except StopIteration as done:
            self._answer(id, "result", result=done.value)
        except UserError as error:
            self._answer(id, "error", text=str(error), exit_code=error.exit_code)
        except Exception as error:  # a fault costs one request, not the reader
            self._answer(id, "error", text=f"{type(error).__name__}: {error}")
        self._going.pop(id, None)
