"""Work over many items in forked processes, one a core: each gets a contiguous part and returns one picklable result."""

import gc
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

from tuitune.errors import UserError

T = TypeVar("T")
FEWEST = 500  # items a process; below that forking does not pay


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def sharded(total: int, work: Callable[[int, range], T], most: int, meanwhile: Callable[[], None] | None = None) -> list[T]:
    """`work(slot, part)` for parts of range(total), in order; slot counts from 1. A UserError of a part is raised here, that of the first
    part first. `meanwhile` is called once here, while they work. Must be called from a process without other threads that hold locks
    which `work` needs."""
    count = max(1, min(cores(), most, total // FEWEST))
    edges = [total * at // count for at in range(count + 1)]
    parts = [range(start, stop) for start, stop in pairwise(edges)]
    if count == 1:
        if meanwhile is not None:
            meanwhile()
        return [work(1, parts[0])]
    started = [_fork(slot, part, work) for slot, part in enumerate(parts, 1)]
    try:
        if meanwhile is not None:
            meanwhile()
    finally:
        answers = [_read(pid, answer) for pid, answer in started]  # each is waited for, so that nobody is left behind
    return _values(answers)


def beside(work: Callable[[], T]) -> Callable[[], T]:
    """Start `work` in a forked process; what is returned waits for its picklable result, and raises its UserError."""
    pid, answer = _fork(0, range(0), lambda slot, part: work())
    return lambda: _values([_read(pid, answer)])[0]


def _fork(slot: int, part: range, work: Callable[[int, range], T]) -> tuple[int, int]:
    """Its id, and the file in memory that it leaves its answer in: a pipe would have it wait at every 64 KiB until somebody reads them."""
    file = os.memfd_create("answer")
    gc.freeze()  # a collection would touch, and so copy, every page that the processes share
    pid = os.fork()
    if pid:
        return pid, file
    code = 1
    try:
        try:
            answer: object = (True, work(slot, part))
        except UserError as error:
            answer = (False, (str(error), error.exit_code))
        except Exception as error:
            traceback.print_exc()
            answer = (False, (f"{type(error).__name__}: {error}", 1))
        with os.fdopen(file, "wb") as opened:
            pickle.dump(answer, opened, protocol=pickle.HIGHEST_PROTOCOL)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def _read(pid: int, file: int) -> bytes:
    """What a process has answered when it has ended; nothing when it was killed before it was done."""
    _, status = os.waitpid(pid, 0)
    with os.fdopen(file, "rb") as opened:
        opened.seek(0)  # the place is shared with the process, which wrote up to the end
        return b"" if status else opened.read()


def _values(answers: Sequence[bytes]) -> list[T]:
    values: list[T] = []
    for data in answers:
        if not data:
            raise UserError("a process that prepared rows died: out of memory, or killed by somebody; ask again, or look at fewer rows")
        good, value = pickle.loads(data)  # written by our own fork a moment ago
        if not good:
            raise UserError(value[0], exit_code=value[1])
        values.append(value)
    return values
