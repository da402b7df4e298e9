"""Work that takes its time, done beside a hub that goes on serving."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
QUICK_S = 0.5  # seconds for work during which nobody misses the hub
LONG_S = 5.0  # seconds after which it is told


def in_thread(work: Callable[[], T], on_long: Callable[[], object], serve: Callable[[], object]) -> T:
    """What `work` returns or raises. When that takes longer, `serve` is called again and again meanwhile (some 0.1 s each), and `on_long`
    once; what they raise ends the wait, and the work is forgotten."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, name="tuitune-work", daemon=True).start()
    wait([result], QUICK_S)
    due, told = time.monotonic() + LONG_S, False
    while not result.done():
        serve()
        if not told and time.monotonic() > due:
            told = True
            on_long()
    return result.result()
