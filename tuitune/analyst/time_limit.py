"""A limit on how long a template may take for one render: it runs a stranger's program."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

RENDER_S = 2.0


class TooLong(BaseException):
    """The time is over. No Exception, so that code which takes every failure of a template as an answer lets it through; `where` says
    what was rendered."""

    def __init__(self, where: str = "") -> None:
        super().__init__(where)
        self.where = where


@contextmanager
def time_limit(seconds: float = RENDER_S) -> Iterator[None]:
    """Raises TooLong in the block after `seconds`; in the main thread only (that is where a worker works). What Python cannot interrupt
    (one huge sum) ends the process by SIGVTALRM after twice as much time on the processor."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_VIRTUAL, 2 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGALRM, before)
